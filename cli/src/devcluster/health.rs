//! Asking a server's health listener: one small HTTP GET.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What a health listener said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What follows the headers.
    pub body: String,
}

/// Asks a port of this machine for `path`, such as `/readyz`; `None` when
/// nobody answers within a second.
pub async fn get(port: u16, path: &str) -> Option<Answer> {
    get_at((Ipv4Addr::LOCALHOST, port).into(), path).await
}

/// The same at a host by name or address.
pub async fn get_from(host: &str, port: u16, path: &str) -> Option<Answer> {
    let within = Duration::from_secs(1);
    let found = tokio::time::timeout(within, tokio::net::lookup_host((host, port))).await;
    get_at(found.ok()?.ok()?.next()?, path).await
}

/// The same at any address.
pub async fn get_at(address: SocketAddr, path: &str) -> Option<Answer> {
    tokio::time::timeout(Duration::from_secs(1), ask(address, path)).await.ok()?
}

async fn ask(address: SocketAddr, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nno quorum");
        assert_eq!(answer, Some(Answer { status: 503, body: "no quorum".to_owned() }));
        assert_eq!(parse("SSH-2.0-OpenSSH\r\n"), None);
    }
}
