//! The PROXY protocol, version 2: how a balancer says whom it forwards.
//!
//! Read only from configured networks, which must send it. From anywhere else
//! its first bytes go to TLS, which takes them for the nonsense they are.

use std::io;
use std::net::IpAddr;

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Prefix, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// Longest part of variable length: addresses, and what balancers add to them.
const VARIABLE_BYTES_MAX: usize = 1_024;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// On behalf of this address.
    For(IpAddr),
    /// On the balancer's own behalf: a health check.
    Own,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The stream ended or broke.
    #[error("the connection ended before its PROXY header did")]
    Ended(#[from] io::Error),
    /// Something else came first.
    #[error(
        "the connection does not begin with a PROXY protocol v2 header, as one from a configured balancer must"
    )]
    Missing,
    /// Longer than any balancer's.
    #[error("the PROXY header is {0} bytes long, the limit is {VARIABLE_BYTES_MAX}")]
    TooLong(usize),
    /// Not as the protocol has it.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(String),
    /// Not an IP address.
    #[error("the PROXY header names no IP address")]
    NoAddress,
}

/// Reads one header, and not a byte more.
///
/// # Errors
/// [`ProxyError`]: whoever sent this is no balancer of ours.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Forwarded, ProxyError> {
    let mut bytes = vec![0; FIXED_BYTES];
    stream.read_exact(&mut bytes).await?;
    if !bytes.starts_with(PROTOCOL_PREFIX) {
        return Err(ProxyError::Missing);
    }
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > VARIABLE_BYTES_MAX {
        return Err(ProxyError::TooLong(length));
    }
    bytes.resize(FIXED_BYTES + length, 0);
    stream.read_exact(&mut bytes[FIXED_BYTES..]).await?;
    let header =
        Header::try_from(&bytes[..]).map_err(|error| ProxyError::Malformed(error.to_string()))?;
    match (header.command, header.addresses) {
        (Command::Local, _) => Ok(Forwarded::Own),
        (Command::Proxy, Addresses::IPv4(ip)) => Ok(Forwarded::For(ip.source_address.into())),
        (Command::Proxy, Addresses::IPv6(ip)) => Ok(Forwarded::For(ip.source_address.into())),
        (Command::Proxy, _) => Err(ProxyError::NoAddress),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ppp::v2::{Builder, Protocol, Version};

    use super::*;

    fn header(command: Command, source: &str) -> Vec<u8> {
        let source: SocketAddr = source.parse().expect("an address");
        let to: SocketAddr = match source {
            SocketAddr::V4(_) => "10.0.0.1:22450".parse().expect("an address"),
            SocketAddr::V6(_) => "[fd00::1]:22450".parse().expect("an address"),
        };
        Builder::with_addresses(Version::Two | command, Protocol::Stream, (source, to))
            .build()
            .expect("a header")
    }

    async fn read(bytes: &[u8]) -> (Result<Forwarded, ProxyError>, Vec<u8>) {
        let mut stream = bytes;
        let result = read_header(&mut stream).await;
        (result, stream.to_vec())
    }

    #[tokio::test]
    async fn a_header_names_the_client_and_leaves_the_rest_unread() {
        for source in ["192.0.2.7:4000", "[2001:db8::7]:4000"] {
            let mut bytes = header(Command::Proxy, source);
            bytes.extend(b"hello");
            let (result, rest) = read(&bytes).await;
            let expected = source.parse::<SocketAddr>().expect("an address").ip();
            assert_eq!(result.expect("a header"), Forwarded::For(expected));
            assert_eq!(rest, b"hello");
        }
    }

    #[tokio::test]
    async fn a_balancers_own_check_names_nobody() {
        let (result, _) = read(&header(Command::Local, "192.0.2.7:4000")).await;
        assert_eq!(result.expect("a header"), Forwarded::Own);
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let good = header(Command::Proxy, "192.0.2.7:4000");
        let (result, _) = read(b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 22450\r\n").await;
        assert!(matches!(result, Err(ProxyError::Missing)), "{result:?}");
        let (result, _) = read(&good[..20]).await;
        assert!(matches!(result, Err(ProxyError::Ended(_))), "{result:?}");
        let mut long = good.clone();
        long[14..16].copy_from_slice(&2_000u16.to_be_bytes());
        let (result, _) = read(&long).await;
        assert!(matches!(result, Err(ProxyError::TooLong(2_000))), "{result:?}");
        let mut version = good.clone();
        version[12] = 0x31;
        let (result, _) = read(&version).await;
        assert!(matches!(result, Err(ProxyError::Malformed(_))), "{result:?}");
        let mut unix = good;
        unix[13] = 0x01;
        let (result, _) = read(&unix).await;
        assert!(matches!(result, Err(ProxyError::NoAddress)), "{result:?}");
    }
}
