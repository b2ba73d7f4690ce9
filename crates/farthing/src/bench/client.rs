//! The client of the load generator: HTTP/1.1 on one connection that is kept, one request at a time.
//!
//! It shares the machine with what it measures, so it does the least that is right: it writes prepared bytes and reads an
//! answer that has a `Content-Length`, as all of farthing's have. It is a client for nothing else.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for an answer; a larger one makes its own.
const ROOM: usize = 16 << 10;

/// One connection, opened when it is needed and again after it broke.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    received: Vec<u8>,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, received: Vec::with_capacity(ROOM) }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        // Put back only after a whole answer: what is left of a broken exchange is not the answer to the next one.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(request).await?;
        self.received.clear();
        let head = loop {
            if stream.read_buf(&mut self.received).await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            if let Some(head) = Head::read(&self.received)?
                && self.received.len() >= head.body_end
            {
                break head;
            }
        };
        self.stream = Some(stream);
        Ok(Answer { status: head.status, body: self.received.get(head.body_start..head.body_end).unwrap_or_default() })
    }
}

/// What the head of an answer says.
struct Head {
    status: u16,
    body_start: usize,
    body_end: usize,
}

impl Head {
    /// Reads the head, as soon as all of it is there.
    fn read(received: &[u8]) -> Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        let unreadable = |what| Error::new(ErrorKind::InvalidData, what);
        let text = received.get(..end).and_then(|head| std::str::from_utf8(head).ok());
        let text = text.ok_or_else(|| unreadable("the head of an answer is not text"))?;
        let status = text.get(9..12).and_then(|status| status.parse().ok());
        let length = text.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
        });
        let status = status.ok_or_else(|| unreadable("an answer has no status"))?;
        let length = length.ok_or_else(|| unreadable("an answer has no Content-Length"))?;
        let body_start = end + 4;
        Ok(Some(Self { status, body_start, body_end: body_start + length }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that writes these parts of answers, with a pause between any two, on one connection.
    async fn server(parts: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = [0; 64];
            for part in parts {
                if part.starts_with("HTTP") {
                    assert!(stream.read(&mut request).await.unwrap() > 0);
                }
                stream.write_all(part.as_bytes()).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn answers_are_read_to_their_end_in_whatever_parts_they_come() {
        let parts = &[
            "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nfirst",
            "HTTP/1.1 402 Payment Required\r\nx: y\r\ncontent-",
            "length:  6\r\n\r",
            "\nsec",
            "ond",
        ];
        let mut client = Client::new(server(parts).await);
        for expected in [(201, &b"first"[..]), (402, b"second")] {
            let answer = client.exchange(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            assert_eq!((answer.status, answer.body), expected);
        }
    }

    #[tokio::test]
    async fn a_broken_answer_is_an_error_and_never_the_answer_to_the_next_request() {
        let mut client = Client::new(server(&["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"]).await);
        let error = client.exchange(b"GET / HTTP/1.1\r\n\r\n").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(client.exchange(b"GET / HTTP/1.1\r\n\r\n").await.is_err());
    }
}
