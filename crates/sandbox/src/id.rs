//! Ids and secrets: a prefix and 24 letters and digits, random, or a function of a seed and a counter.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Where a world's ids come from.
#[derive(Debug)]
pub(crate) struct Ids {
    /// The seed and the world's name; none draws at random.
    pub(crate) seed: Option<(u64, String)>,
    /// How many were drawn.
    pub(crate) drawn: u64,
}

impl Ids {
    /// `length` (at most 64) letters and digits.
    pub(crate) fn text(&mut self, length: usize) -> String {
        self.drawn += 1;
        let mut bytes = [0u8; 64];
        match &self.seed {
            Some((seed, world)) => {
                for (half, chunk) in bytes.chunks_mut(32).enumerate() {
                    let digest = Sha256::digest(format!("{seed}:{world}:{}:{half}", self.drawn));
                    chunk.copy_from_slice(&digest);
                }
            }
            None => random(&mut bytes),
        }
        // A byte modulo 62 favours eight letters a little, which does not matter here.
        bytes
            .iter()
            .take(length)
            .filter_map(|byte| ALPHABET.get(usize::from(*byte) % 62))
            .map(|b| char::from(*b))
            .collect()
    }
}

/// Fills with random bytes. A system without randomness gets those of the clock, which a sandbox can live with.
fn random(bytes: &mut [u8; 64]) {
    if getrandom::fill(bytes).is_err() {
        let digest = Sha256::digest(crate::time::wall_milliseconds().to_le_bytes());
        for (byte, from) in bytes.iter_mut().zip(digest.iter().cycle()) {
            *byte = *from;
        }
    }
}
