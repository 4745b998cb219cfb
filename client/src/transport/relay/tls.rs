//! TLS to a relay whose address says `wss://`: so that networks which let nothing but HTTPS out let this out.
//!
//! # No certificate is looked at
//!
//! The relay proves the key that its ticket pins in the link handshake inside, and what client and relay say is sealed there (protocol §3.1, §3.10). A
//! certificate could add no more than a second, weaker opinion of who that is; but it could lock a network out of its relay, by the day it expires, by
//! the name it was not made for, by a list of authorities that this machine lacks. So any is taken. Of the handshake itself everything is
//! verified, the signature with the certificate's key among it where that is found: what is broken or no TLS is seen to be that.
//!
//! Who is in the middle can so end the TLS, as a firewall that inspects does, and sees what he would see without it.

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, IpAddr as NameOfIp, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, SignatureScheme,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes that it may hold unsent, beside those of the kernel: two records.
const UNSENT: usize = 32 * 1024;

/// TLS 1.3, X25519MLKEM768 before X25519, as browsers have it, and nothing remembered of a connection.
static CONNECTOR: LazyLock<Result<TlsConnector, rustls::Error>> = LazyLock::new(|| {
    let provider = CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    };
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
});

/// Shakes hands over `tcp`, which leads to `remote`; the relay's name is in `host_port`.
///
/// # Errors
/// What the network said; `InvalidData` for what is no TLS 1.3.
pub(super) async fn connect(
    tcp: TcpStream,
    host_port: &str,
    remote: SocketAddr,
) -> io::Result<Box<TlsStream<TcpStream>>> {
    let connector = CONNECTOR.as_ref().map_err(|error| io::Error::other(error.clone()))?;
    let mut stream = connector.connect(server_name(host_port, remote.ip()), tcp).await?;
    stream.get_mut().1.set_buffer_limit(Some(UNSENT));
    Ok(Box::new(stream))
}

/// Whether the handshake ended because the relay has no place (protocol §3.10).
pub(super) fn is_refusal(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    error == Some(&rustls::Error::AlertReceived(AlertDescription::AccessDenied))
}

/// Whether what answers speaks something else than TLS: no record begins as its answer does. HTTP, mostly.
pub(super) fn is_other_language(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    error == Some(&rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))
}

/// The name that is asked for: that of the address, where it is one. A number is never said (RFC 6066 §3).
fn server_name(host_port: &str, remote: IpAddr) -> ServerName<'static> {
    let host = host_port.rsplit_once(':').map_or(host_port, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_| ServerName::IpAddress(NameOfIp::from(remote)))
}

/// See the module page.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // protocol §3.10
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match verify_tls13_signature(message, cert, signed, &self.0) {
            // One in which nobody finds the key: an old form, an extension that nobody knows.
            Err(rustls::Error::InvalidCertificate(why)) if why != CertificateError::BadSignature => {
                Ok(HandshakeSignatureValid::assertion())
            }
            other => other,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_address_is_asked_for_and_a_number_is_none() {
        let remote = "192.0.2.7".parse().unwrap();
        let asked = |text| {
            let name = server_name(text, remote);
            if let ServerName::DnsName(name) = &name { name.as_ref().to_owned() } else { format!("{name:?}") }
        };
        assert_eq!(asked("relay.example:443"), "relay.example");
        assert_eq!(asked("relay.example.:443"), "relay.example");
        for number in ["192.0.2.7:443", "[2001:db8::1]:443", "-no-name-:443"] {
            assert!(asked(number).starts_with("IpAddress"), "{number}");
        }
    }
}
