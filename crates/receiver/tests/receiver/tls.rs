//! The receiver's own certificate, while it changes.

use std::sync::Arc;

use testbed::{Authority, Certificate, SecretMount};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::whole::{WITHIN, WholeReceiver};

/// The certificate and its key, as a mount has them.
fn files(certificate: &Certificate) -> [(&'static str, String); 2] {
    let text = |file| std::fs::read_to_string(file).expect("there");
    [("chain", text(&certificate.chain)), ("key", text(&certificate.key))]
}

fn first_of(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&certificate.chain).expect("PEM")
}

/// A client that trusts the authority.
struct Client(TlsConnector);

impl Client {
    fn of(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.file()).expect("PEM")).expect("a root");
        Self(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()).into())
    }

    async fn connect(&self, receiver: &WholeReceiver) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(&receiver.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        self.0.connect(name, stream).await.expect("a certificate of the authority")
    }
}

/// With which certificate the receiver spoke.
fn certificate_of(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("a chain")[0].clone().into_owned()
}

/// Asks on a connection that stays open.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = vec![0; 1_024];
    let read = tokio::time::timeout(WITHIN, stream.read(&mut answer)).await.expect("an answer").expect("open");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Connects until the receiver speaks with this certificate.
async fn until_speaks_with(client: &Client, receiver: &WholeReceiver, certificate: &Certificate) {
    let wanted = first_of(certificate);
    let speaks = async {
        while certificate_of(&client.connect(receiver).await) != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, speaks).await.expect("the file was read again");
}

#[tokio::test]
async fn a_certificate_whose_file_changes_is_for_new_connections_and_those_that_are_open_go_on() {
    let authority = Authority::new().expect("an authority");
    let issue = |name: &str| authority.issue(name, &["DNS:localhost"]).expect("a certificate");
    let (first, second) = (issue("first"), issue("second"));
    let mount = SecretMount::new(&[("chain", ""), ("key", "")]).expect("a folder");
    swap(&mount, "first", &files(&first));
    let (chain, key) = (mount.file("chain"), mount.file("key"));
    let settings = [("TLS_CERTIFICATE_FILE", chain.as_str()), ("TLS_KEY_FILE", key.as_str())];
    let receiver = WholeReceiver::start("https", &settings).await;
    let client = Client::of(&authority);
    let mut open = client.connect(&receiver).await;
    assert_eq!(certificate_of(&open), first_of(&first));
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"));

    swap(&mount, "second", &files(&second));
    until_speaks_with(&client, &receiver, &second).await;
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"), "it was open before");
}

/// Puts another certificate behind the links.
fn swap(mount: &SecretMount, version: &str, files: &[(&'static str, String); 2]) {
    let secrets: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    mount.swap(version, &secrets).expect("swapped");
}
