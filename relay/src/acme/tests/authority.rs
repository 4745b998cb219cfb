//! An ACME authority on loopback (RFC 8555), for tests: it takes nothing on trust.
//!
//! Every request is a JWS whose signature, nonce and URL are checked (§6.2–6.5), by an account that it knows; a challenge is looked at for real, over TCP and TLS with
//! `acme-tls/1` (RFC 8737), at the address that [`Authority::leads_to`] says all names lead to; and what it issues, for the names and the key of the request, leads to its root.
//! It answers one request for each connection. What else it does is said by [`Whims`].

#![expect(clippy::unwrap_in_result, reason = "what it refuses are results, what breaks it ends the test")]

use super::super::order::pem;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// OID id-pe-acmeIdentifier, critical, and the begin of an octet string in an octet string of 32 bytes (RFC 8737 §3).
const IDENTIFIER: [u8; 17] =
    [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f, 0x01, 0x01, 0xff, 0x04, 0x22, 0x04, 0x20];
const PROTOCOL: &[u8] = b"acme-tls/1";
/// Longest request that is read, bytes.
const MAX_REQUEST: usize = 64 * 1024;

/// What it does beside its duty.
#[derive(Debug, Default)]
pub(super) struct Whims {
    /// So many good nonces are called bad (§6.5: the client tries again with the one that comes with that).
    pub(super) bad_nonces: u32,
    /// The next order is refused as one too many (§6.6), until so many seconds later.
    pub(super) rate_limited: Option<u64>,
    /// It offers no challenge by TLS.
    pub(super) only_http: bool,
    /// What it issues is for another key.
    pub(super) another_key: bool,
    /// What it issues has been over for years.
    pub(super) backdated: bool,
    /// It writes half a megabyte before each certificate.
    pub(super) verbose: bool,
    /// When it wants to be asked for an order again, seconds, with every answer that is one.
    pub(super) retry_after: Option<u64>,
    /// So many names more are to be proven.
    pub(super) unasked: usize,
    /// What is to be proven is for another name.
    pub(super) another_name: bool,
}

/// See the module page.
pub(super) struct Authority {
    /// Where its directory is.
    pub(super) directory: String,
    /// Its root, PEM, in a file.
    pub(super) roots: PathBuf,
    pub(super) root: CertificateDer<'static>,
    desk: Arc<Desk>,
    serving: tokio::task::JoinHandle<()>,
    _home: tempfile::TempDir,
}

impl Authority {
    pub(super) async fn start() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let own_key = KeyPair::generate().unwrap();
        let own =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&own_key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], PrivateKeyDer::Pkcs8(own_key.serialize_der().into()))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let home = tempfile::tempdir().unwrap();
        let roots = home.path().join("roots.pem");
        std::fs::write(&roots, pem("CERTIFICATE", &root).as_bytes()).unwrap();
        let directory = format!("{base}/directory");
        let desk = Arc::new(Desk { base, issuer, root: root.clone(), book: Mutex::default() });
        let serving = tokio::spawn(serve(Arc::clone(&desk), listener, Arc::new(config).into()));
        Self { directory, roots, root, desk, serving, _home: home }
    }

    /// From now on all names lead to `relay`.
    pub(super) fn leads_to(&self, relay: SocketAddr) {
        self.desk.book.lock().unwrap().names_at = Some(relay);
    }

    pub(super) fn has(&self, whims: Whims) {
        self.desk.book.lock().unwrap().whims = whims;
    }

    /// How many accounts it has, and how many orders it took, and refused as too many.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let book = self.desk.book.lock().unwrap();
        (book.accounts.len(), book.orders.len(), book.put_off)
    }

    /// It knows nobody any more.
    pub(super) fn forget_accounts(&self) {
        self.desk.book.lock().unwrap().accounts.clear();
    }

    /// Nobody answers any more.
    pub(super) fn close(&self) {
        self.serving.abort();
    }
}

/// What it has in its books.
#[derive(Default)]
struct Book {
    whims: Whims,
    names_at: Option<SocketAddr>,
    nonces: HashSet<String>,
    count: u64,
    accounts: Vec<Value>,
    orders: Vec<Order>,
    put_off: usize,
}

impl Book {
    fn nonce(&mut self) -> String {
        self.count += 1;
        let nonce = BASE64.encode(digest(&SHA256, &self.count.to_be_bytes()).as_ref());
        self.nonces.insert(nonce.clone());
        nonce
    }
}

struct Order {
    account: usize,
    names: Vec<Name>,
    chain: Option<String>,
}

struct Name {
    domain: String,
    token: String,
    status: &'static str,
    error: Option<Value>,
}

struct Desk {
    base: String,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    book: Mutex<Book>,
}

/// Status, further headers, body.
struct Answer(u16, Vec<(&'static str, String)>, String);

fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let body =
        json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status });
    Answer(status, Vec::new(), body.to_string())
}

async fn serve(desk: Arc<Desk>, listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (desk, acceptor) = (Arc::clone(&desk), acceptor.clone());
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(tcp).await else { return };
            let mut request = Vec::new();
            let (head, body) = loop {
                let mut more = [0; 4096];
                match stream.read(&mut more).await {
                    Ok(count @ 1..) if request.len() < MAX_REQUEST => {
                        request.extend_from_slice(&more[..count])
                    }
                    Ok(_) | Err(_) => return,
                }
                let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8(request[..end].to_vec()).unwrap();
                let len = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse::<usize>().unwrap())
                });
                if request.len() >= end + 4 + len.unwrap_or(0) {
                    break (head, request.split_off(end + 4));
                }
            };
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let Answer(status, headers, text) = desk.answer(method, path, &body);
            let nonce = desk.book.lock().unwrap().nonce();
            let mut answer = format!(
                "HTTP/1.1 {status} X\r\nReplay-Nonce: {nonce}\r\nConnection: close\r\nContent-Length: {}\r\n",
                text.len()
            );
            headers.iter().for_each(|(name, value)| answer.push_str(&format!("{name}: {value}\r\n")));
            answer.push_str("\r\n");
            if method != "HEAD" {
                answer.push_str(&text);
            }
            // Who asked may be gone.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

impl Desk {
    fn answer(self: &Arc<Self>, method: &str, path: &str, body: &[u8]) -> Answer {
        let url = |path: &str| format!("{}/{path}", self.base);
        match (method, path) {
            ("GET", "/directory") => {
                let urls = json!({ "newNonce": url("nonce"), "newAccount": url("account"), "newOrder": url("order"),
                    "revokeCert": url("revoke"), "keyChange": url("change"), "meta": {} });
                Answer(200, Vec::new(), urls.to_string())
            }
            ("HEAD" | "GET", "/nonce") => Answer(200, Vec::new(), String::new()),
            ("POST", _) => match self.read(&format!("{}{path}", self.base), body) {
                Ok((jwk, payload)) => self.serve(path, &jwk, &payload),
                Err(answer) => answer,
            },
            _ => problem(404, "malformed", "there is no such thing"),
        }
    }

    /// The key that signed `body` for `url`, and what is in it; null for what only asks (§6.3).
    fn read(&self, url: &str, body: &[u8]) -> Result<(Value, Value), Answer> {
        let bad = |detail: &str| problem(400, "malformed", detail);
        let jws: Value = serde_json::from_slice(body).map_err(|_| bad("no JSON"))?;
        let text = |name: &str| jws[name].as_str().unwrap_or_default();
        let decoded = |name: &str| BASE64.decode(text(name).as_bytes()).map_err(|_| bad(name));
        let protected: Value =
            serde_json::from_slice(&decoded("protected")?).map_err(|_| bad("protected"))?;
        if protected["alg"] != "ES256" || protected["url"] != url {
            return Err(bad("of another URL, or signed in another way"));
        }
        let mut book = self.book.lock().unwrap();
        let is_known = book.nonces.remove(protected["nonce"].as_str().unwrap_or_default());
        if !is_known || book.whims.bad_nonces > 0 {
            book.whims.bad_nonces = book.whims.bad_nonces.saturating_sub(1);
            return Err(problem(400, "badNonce", "that nonce is used up"));
        }
        let jwk = match (protected.get("jwk"), protected["kid"].as_str()) {
            (Some(jwk), None) => jwk.clone(),
            (None, Some(kid)) => {
                let number = kid
                    .strip_prefix(&format!("{}/account/", self.base))
                    .and_then(|n| n.parse::<usize>().ok());
                let known = number.and_then(|number| book.accounts.get(number)).cloned();
                known.ok_or_else(|| problem(400, "accountDoesNotExist", "nobody has that account"))?
            }
            _ => return Err(bad("either jwk or kid")),
        };
        let half = |name: &str| {
            BASE64.decode(jwk[name].as_str().unwrap_or_default().as_bytes()).map_err(|_| bad("jwk"))
        };
        let point = [vec![4], half("x")?, half("y")?].concat();
        let signed = format!("{}.{}", text("protected"), text("payload"));
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &decoded("signature")?)
            .map_err(|_| problem(403, "unauthorized", "the signature is another's"))?;
        let payload = decoded("payload")?;
        let payload = if payload.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&payload).map_err(|_| bad("payload"))?
        };
        Ok((jwk, payload))
    }

    fn serve(self: &Arc<Self>, path: &str, jwk: &Value, payload: &Value) -> Answer {
        let mut book = self.book.lock().unwrap();
        let account = book.accounts.iter().position(|known| known == jwk);
        let words: Vec<&str> = path.split('/').skip(1).collect();
        if words == ["account"] {
            let number = account.unwrap_or(book.accounts.len());
            if account.is_none() {
                book.accounts.push(jwk.clone());
            }
            let location = format!("{}/account/{number}", self.base);
            return Answer(201, vec![("Location", location)], json!({ "status": "valid" }).to_string());
        }
        let Some(account) = account else { return problem(401, "unauthorized", "no account has that key") };
        if words == ["order"] {
            if let Some(wait) = book.whims.rate_limited.take() {
                book.put_off += 1;
                let Answer(status, _, body) = problem(429, "rateLimited", "too many orders for that name");
                return Answer(status, vec![("Retry-After", wait.to_string())], body);
            }
            let identifiers = payload["identifiers"].as_array().cloned().unwrap_or_default();
            let names = identifiers.iter().map(|identifier| Name {
                domain: identifier["value"].as_str().unwrap_or_default().to_owned(),
                token: book.nonce(),
                status: "pending",
                error: None,
            });
            let names = names.collect();
            book.orders.push(Order { account, names, chain: None });
            let number = book.orders.len() - 1;
            return self.order(&book, number, 201);
        }
        let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
        let order = numbers
            .first()
            .and_then(|number| book.orders.get(*number))
            .filter(|order| order.account == account);
        let Some(order) = order else { return problem(403, "unauthorized", "it is another's") };
        let (number, name) = (numbers[0], numbers.get(1).copied().unwrap_or_default());
        match words.as_slice() {
            ["order", _] => self.order(&book, number, 200),
            ["authz", _, _] => self.authorization(&book, number, name),
            ["challenge", _, _] => {
                let thumbprint = thumbprint(jwk);
                let (desk, at) = (Arc::clone(self), book.names_at);
                let Name { domain, token, .. } = &order.names[name];
                let (domain, wanted) =
                    (domain.clone(), digest(&SHA256, format!("{token}.{thumbprint}").as_bytes()));
                book.orders[number].names[name].status = "processing";
                tokio::spawn(async move {
                    let looked = look(at, &domain, wanted.as_ref()).await;
                    let mut book = desk.book.lock().unwrap();
                    let name = &mut book.orders[number].names[name];
                    name.status = if looked.is_ok() { "valid" } else { "invalid" };
                    name.error = looked.err().map(|(kind, detail)| {
                        json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": 403 })
                    });
                });
                Answer(200, Vec::new(), self.challenge(&book, number, name).to_string())
            }
            ["order", _, "finalize"] => {
                let csr =
                    BASE64.decode(payload["csr"].as_str().unwrap_or_default().as_bytes()).unwrap_or_default();
                let issued = if status(order) == "ready" {
                    self.issue(&csr, &order.names, &book.whims)
                } else {
                    Err(problem(403, "orderNotReady", "not every name is proven"))
                };
                match issued {
                    Ok(chain) => book.orders[number].chain = Some(chain),
                    Err(answer) => return answer,
                }
                self.order(&book, number, 200)
            }
            ["order", _, "certificate"] => match &order.chain {
                Some(chain) => Answer(200, Vec::new(), chain.clone()),
                None => problem(404, "malformed", "it is not issued"),
            },
            _ => problem(404, "malformed", "there is no such thing"),
        }
    }

    fn order(&self, book: &Book, number: usize, code: u16) -> Answer {
        let (order, at) = (&book.orders[number], format!("{}/order/{number}", self.base));
        let identifiers: Vec<Value> =
            order.names.iter().map(|name| json!({ "type": "dns", "value": name.domain })).collect();
        let authorizations: Vec<String> = (0..order.names.len() + book.whims.unasked)
            .map(|name| format!("{}/authz/{number}/{name}", self.base))
            .collect();
        let mut body = json!({ "status": status(order), "identifiers": identifiers, "authorizations": authorizations,
            "finalize": format!("{at}/finalize") });
        if order.chain.is_some() {
            body["certificate"] = format!("{at}/certificate").into();
        }
        let mut headers = vec![("Location", at)];
        headers.extend(book.whims.retry_after.map(|wait| ("Retry-After", wait.to_string())));
        Answer(code, headers, body.to_string())
    }

    fn authorization(&self, book: &Book, number: usize, name: usize) -> Answer {
        let Name { domain, status, .. } = &book.orders[number].names[name];
        let status = if *status == "processing" { "pending" } else { *status };
        let domain = if book.whims.another_name { "other.example" } else { domain.as_str() };
        let body = json!({ "status": status, "identifier": { "type": "dns", "value": domain },
            "challenges": [self.challenge(book, number, name)] });
        Answer(200, Vec::new(), body.to_string())
    }

    fn challenge(&self, book: &Book, number: usize, name: usize) -> Value {
        let Name { token, status, error, .. } = &book.orders[number].names[name];
        let kind = if book.whims.only_http { "http-01" } else { "tls-alpn-01" };
        let url = format!("{}/challenge/{number}/{name}", self.base);
        json!({ "type": kind, "url": url, "token": token, "status": status, "error": error })
    }

    /// A chain for the request in `csr`, which must be for `names` and no others.
    fn issue(&self, csr: &[u8], names: &[Name], whims: &Whims) -> Result<String, Answer> {
        let bad = |detail: &str| problem(400, "badCSR", detail);
        let csr = CertificateSigningRequestDer::from(csr.to_vec());
        let mut request =
            CertificateSigningRequestParams::from_der(&csr).map_err(|error| bad(&error.to_string()))?;
        let asked = request.params.subject_alt_names.iter().map(|name| match name {
            SanType::DnsName(name) => name.as_str().to_owned(),
            SanType::Rfc822Name(_) | SanType::URI(_) | SanType::IpAddress(_) | SanType::OtherName(_) | _ => {
                format!("{name:?}")
            }
        });
        let (asked, proven): (HashSet<_>, HashSet<_>) =
            (asked.collect(), names.iter().map(|name| name.domain.clone()).collect());
        if asked != proven {
            return Err(bad("for other names"));
        }
        request.params.not_before = date_time_ymd(2020, 1, 1);
        request.params.not_after = date_time_ymd(if whims.backdated { 2021 } else { 2080 }, 1, 1);
        let issued = if whims.another_key {
            request.params.signed_by(&KeyPair::generate().unwrap(), &self.issuer)
        } else {
            request.signed_by(&self.issuer)
        };
        let issued = issued.map_err(|error| bad(&error.to_string()))?;
        let around = if whims.verbose { "by the way\n".repeat(46 * 1024) } else { String::new() };
        Ok(format!(
            "{around}{}{around}{}",
            *pem("CERTIFICATE", issued.der()),
            *pem("CERTIFICATE", &self.root)
        ))
    }
}

fn status(order: &Order) -> &'static str {
    let has = |wanted: &str| order.names.iter().any(|name| name.status == wanted);
    match &order.chain {
        Some(_) => "valid",
        None if has("invalid") => "invalid",
        None if order.names.iter().all(|name| name.status == "valid") => "ready",
        None => "pending",
    }
}

/// RFC 7638 §3, of a key on P-256.
fn thumbprint(jwk: &Value) -> String {
    let text = format!(r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#, jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]);
    BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

/// Whether what answers for `domain` at `at` shows the digest `wanted` (RFC 8737 §3); the kind of the error and what is wrong.
async fn look(at: Option<SocketAddr>, domain: &str, wanted: &[u8]) -> Result<(), (&'static str, String)> {
    let at = at.ok_or_else(|| ("dns", format!("{domain} leads nowhere")))?;
    let failed = |error: std::io::Error| ("connection", error.to_string());
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SelfSigned))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let tcp = TcpStream::connect(at).await.map_err(failed)?;
    let name = ServerName::try_from(domain.to_owned()).map_err(|_| ("malformed", "no name".to_owned()))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(failed)?;
    let (_, shown) = stream.get_ref();
    let certificate =
        shown.peer_certificates().and_then(<[_]>::first).map(|der| der.to_vec()).unwrap_or_default();
    let has = |bytes: &[u8]| certificate.windows(bytes.len()).any(|window| window == bytes);
    let own_name = [&[0x82, u8::try_from(domain.len()).unwrap_or_default()], domain.as_bytes()].concat();
    let is_shown =
        shown.alpn_protocol() == Some(PROTOCOL) && has(&[&IDENTIFIER, wanted].concat()) && has(&own_name);
    if is_shown { Ok(()) } else { Err(("unauthorized", format!("another answers for {domain}"))) }
}

/// A challenge's certificate is signed by nobody (RFC 8737 §3); what is in it is looked at afterwards.
#[derive(Debug)]
struct SelfSigned;

impl ServerCertVerifier for SelfSigned {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 alone")
    }

    /// The critical extension keeps the library from it.
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
