//! Authorities and the certificates that they sign, made with OpenSSL, and a door that speaks TLS for a server which does not.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// An authority that only its test trusts. Its files go with this value.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

/// A certificate and its key, in files of PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// There is no OpenSSL (Debian's package `openssl`).
    pub fn new() -> Result<Self> {
        let id = uuid::Uuid::now_v7();
        let folder = std::env::temp_dir().join(format!("leadline-certificates-{id}"));
        fs::create_dir_all(&folder)?;
        let authority = Self { folder };
        let extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
        // Of two with one name, a client would take the wrong one's key.
        let subject = format!("/CN=authority {id}");
        let named = ["-subj", &subject, "-days", "30", "-keyout", "ca.key", "-out", "ca.pem"];
        authority.openssl(&[&["req", "-x509"], &KEY[..], &named[..], &extensions[..]].concat())?;
        Ok(authority)
    }

    /// The file with its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for these hosts, each as OpenSSL writes it: `DNS:localhost`, `IP:127.0.0.1`. `name` tells its files apart.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<Certificate> {
        let file = |ending: &str| format!("{name}.{ending}");
        let (key, request, chain, extensions) = (file("key"), file("csr"), file("pem"), file("cnf"));
        let usage = "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n";
        fs::write(self.folder.join(&extensions), format!("subjectAltName={}\n{usage}", hosts.join(",")))?;
        let subject = format!("/CN={name}");
        self.openssl(&[&["req"], &KEY[..], &["-subj", &subject, "-keyout", &key, "-out", &request]].concat())?;
        let signed = ["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        self.openssl(&[&signed[..], &["-days", "30", "-extfile", &extensions, "-out", &chain]].concat())?;
        Ok(Certificate { chain: self.folder.join(chain), key: self.folder.join(key) })
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        let output = command.output().context("cannot run openssl (Debian's package openssl)")?;
        if !output.status.success() {
            bail!("openssl {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Certificate {
    /// What a server with this certificate speaks TLS with.
    fn acceptor(&self) -> Result<TlsAcceptor> {
        let chain = CertificateDer::pem_file_iter(&self.chain)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&self.key)?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Copies both for a user who refuses keys that others may read.
    pub(crate) fn copy_for(&self, folder: &Path, user: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        for (from, to) in [(&self.chain, "server.pem"), (&self.key, "server.key")] {
            let to = folder.join(to);
            fs::copy(from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
            if rustix::process::geteuid().is_root() {
                let status = Command::new("chown").arg(user).arg(&to).status()?;
                anyhow::ensure!(status.success(), "cannot give {} to {user}", to.display());
            }
        }
        Ok(())
    }
}

/// A door on loopback that speaks TLS, and passes on what comes to a server that does not. It closes when dropped.
#[derive(Debug)]
pub struct TlsDoor {
    /// The port at which it listens.
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl TlsDoor {
    /// A door with this certificate to `target`.
    pub async fn to(target: SocketAddr, certificate: &Certificate) -> Result<Self> {
        let acceptor = certificate.acceptor()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Ok(Self { port, task })
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}
