//! Links to invoices for people without an account: the invoice's address and a keyed code over it (HMAC-SHA256, RFC 2104),
//! so that nobody can make up a link, and none has to be kept. They hold no personal data.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::store::OperationRef;

/// Bytes of the code in a link: 128 bits cannot be guessed.
const CODE: usize = 16;

/// What links to invoices are made with.
#[derive(Clone)]
pub struct PageKey([u8; 32]);

/// Written by hand so that the key cannot reach a log.
impl std::fmt::Debug for PageKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PageKey(redacted)")
    }
}

impl PageKey {
    /// A key of this installation.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The token in the link to an invoice: 46 characters that need no escaping.
    #[must_use]
    pub fn token(&self, invoice: OperationRef) -> String {
        let mut bytes = address(invoice);
        bytes.extend(self.code(&bytes).map(|mac| mac.finalize().into_bytes()).iter().flatten().take(CODE));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The invoice that a token is the link to; nothing where it is not one of ours. It takes as long for a wrong code as
    /// for the right one.
    #[must_use]
    pub fn invoice(&self, token: &str) -> Option<OperationRef> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (address, code) = bytes.split_at_checked(18).filter(|(_, code)| code.len() == CODE)?;
        self.code(address)?.verify_truncated_left(code).ok()?;
        let (bucket, id) = address.split_at_checked(2)?;
        let shard_key = i32::from(u16::from_be_bytes(bucket.try_into().ok()?));
        Some((shard_key, Uuid::from_slice(id).ok()?))
    }

    fn code(&self, address: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(b"invoice page\0");
        mac.update(address);
        Some(mac)
    }
}

fn address((shard_key, id): OperationRef) -> Vec<u8> {
    let bucket = u16::try_from(shard_key).unwrap_or_default().to_be_bytes();
    bucket.into_iter().chain(*id.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_its_invoice_and_no_other_can_be_made_up() {
        let key = PageKey::new([7; 32]);
        let invoice = (1023, Uuid::from_u128(0x1234));
        let token = key.token(invoice);
        assert_eq!((token.len(), key.invoice(&token)), (46, Some(invoice)));
        for at in 0..token.len() {
            let mut wrong: Vec<char> = token.chars().collect();
            wrong[at] = if wrong[at] == 'A' { 'B' } else { 'A' };
            assert_eq!(key.invoice(&wrong.into_iter().collect::<String>()), None, "at {at}");
        }
        for wrong in ["", "AAAA", &token[..45], &format!("{token}A")] {
            assert_eq!(key.invoice(wrong), None, "{wrong}");
        }
        assert_eq!(PageKey::new([8; 32]).invoice(&token), None, "of another installation");
        assert!(!format!("{key:?}").contains('7'));
    }
}
