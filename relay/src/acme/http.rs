//! Requests to the authority: a connection each, TLS 1.3, over which the library speaks.

use super::AcmeError;
use bytes::Bytes;
use http_body_util::Limited;
use hyper::Request;
use hyper::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For one request and the head of its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names are looked up one at a time.
static LOOKING_UP: Semaphore = Semaphore::const_new(1);
/// For a connection to one of its addresses.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read, bytes: a chain has ten thousand.
const MAX_BODY: usize = 1 << 20;
const HTTPS: u16 = 443;

/// Longest that an authority may put off a try: after a day it is asked whether it still means it.
pub(super) const PUT_OFF_MAX: Duration = Duration::from_secs(86_400);

/// Makes them. Clones are the same.
#[derive(Clone)]
pub(super) struct Https {
    connector: TlsConnector,
    /// How long it wants not to be asked, as it said last.
    put_off: Arc<Mutex<Option<Duration>>>,
}

impl Https {
    /// Trusts the public roots, or those in the file `roots` alone.
    pub(super) fn new(roots: Option<&Path>) -> Result<Self, AcmeError> {
        let mut trusted = RootCertStore::empty();
        match roots {
            None => trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let wrong = |cause: String| AcmeError::Roots { path: path.to_owned(), cause };
                let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
                for certificate in CertificateDer::pem_slice_iter(&text) {
                    let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                    trusted.add(certificate).map_err(|error| wrong(error.to_string()))?;
                }
                if trusted.is_empty() {
                    return Err(wrong("there is no certificate in it, in PEM form".to_owned()));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::Other(error.into()))?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), put_off: Arc::default() })
    }

    /// How long the authority wants not to be asked, if it refused something for that (RFC 8555 §6.6).
    pub(super) fn put_off(&self) -> Option<Duration> {
        *self.put_off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let other = |error: io::Error| Error::Other(error.into());
        let (mut parts, body) = request.into_parts();
        let url = std::mem::take(&mut parts.uri);
        let wrong = || Error::Other(format!("{url} is no https URL").into());
        if url.scheme_str() != Some("https") {
            return Err(wrong());
        }
        let authority = url.authority().ok_or_else(wrong)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(HTTPS);
        let unreachable =
            |error: io::Error| Error::Other(format!("{authority} cannot be reached: {error}").into());
        let tcp = connect(&host, port).await.map_err(unreachable)?;
        let name = ServerName::try_from(host).map_err(|_| wrong())?;
        let tls = self.connector.connect(name, tcp).await.map_err(unreachable)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|error| other(io::Error::other(error)))?;
        // It lives as long as somebody reads the answer.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the ACME authority ended");
            }
        });
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        parts.headers.insert(HOST, host);
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse().map_err(|_| wrong())?;
        let answer = sender.send_request(Request::from_parts(parts, body)).await;
        let mut answer = answer.map_err(|error| other(io::Error::other(error)))?;
        let wait = retry_after(answer.headers());
        // The library adds to the time of day whatever is there.
        match wait {
            Some(wait) => drop(answer.headers_mut().insert(RETRY_AFTER, wait.as_secs().into())),
            None => drop(answer.headers_mut().remove(RETRY_AFTER)),
        }
        if answer.status().is_client_error() || answer.status().is_server_error() {
            *self.put_off.lock().unwrap_or_else(PoisonError::into_inner) = wait;
        }
        Ok(BytesResponse::from(answer.map(|body| Limited::new(body, MAX_BODY))))
    }
}

/// To the first of the host's addresses that answers: one that swallows what is sent there, as IPv6 may, does not keep the others from being tried.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in look_up(host, port).await? {
        let connecting = timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await;
        match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of `host`. On a thread of its own, for the system may take half a minute: handshakes wait for those that the runtime has, of which there may be one.
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let one = LOOKING_UP.acquire().await.map_err(io::Error::other)?;
    let (tell, told) = oneshot::channel();
    let host = host.to_owned();
    std::thread::Builder::new().name("acme-names".to_owned()).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // When it is over, and not when nobody waits for it any more.
        drop(one);
        // Who asked may be gone.
        let _ = tell.send(found);
    })?;
    told.await.map_err(io::Error::other)?
}

/// Seconds; a date, which is the other form, no authority sends.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(PUT_OFF_MAX))
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let sent = self.clone().send(request);
        Box::pin(async move {
            timeout(PATIENCE, sent).await.unwrap_or_else(|_| Err(Error::Other("it does not answer".into())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn names_are_looked_up_while_the_threads_for_handshakes_are_busy() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
        let (release, released) = mpsc::channel::<()>();
        let busy = runtime.spawn_blocking(move || released.recv());
        let found = runtime.block_on(async { timeout(PATIENCE, look_up("localhost", 443)).await });
        let found = found.expect("it waits for nobody").unwrap();
        assert!(found.iter().any(|address| address.ip().is_loopback() && address.port() == 443), "{found:?}");
        release.send(()).unwrap();
        runtime.block_on(busy).unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_address_is_no_name_and_one_name_is_looked_up_at_a_time() {
        let one = LOOKING_UP.acquire().await.unwrap();
        assert_eq!(look_up("2001:db8::1", 1).await.unwrap(), ["[2001:db8::1]:1".parse().unwrap()]);
        let mut second = Box::pin(look_up("localhost", 1));
        assert!(timeout(Duration::from_millis(100), &mut second).await.is_err());
        drop(one);
        second.await.unwrap();
    }

    #[test]
    fn a_wait_is_a_day_at_most_and_what_is_none_is_none() {
        let of = |text: &str| {
            let headers = [(RETRY_AFTER, HeaderValue::from_str(text).unwrap())].into_iter().collect();
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(["0", " 60 ", "86401", "18446744073709551615"].map(of), [0, 60, 86_400, 86_400].map(Some));
        for none in ["", "-1", "18446744073709551616", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
