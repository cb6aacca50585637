//! A folder with secrets, as Kubernetes mounts one.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A folder with secrets, as Kubernetes mounts one: links into a folder that is replaced as a whole. It goes with this value.
#[derive(Debug)]
pub struct SecretMount(PathBuf);

impl SecretMount {
    /// A folder with these secrets, by name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(secrets: &[(&str, &str)]) -> io::Result<Self> {
        let mount = Self(std::env::temp_dir().join(format!("leadline-secrets-{}", uuid::Uuid::now_v7())));
        fs::create_dir_all(&mount.0)?;
        for (secret, _) in secrets {
            symlink(format!("..data/{secret}"), mount.path(secret))?;
        }
        mount.swap("1", secrets)?;
        Ok(mount)
    }

    /// The file of a secret.
    pub fn path(&self, secret: &str) -> PathBuf {
        self.0.join(secret)
    }

    /// The same as text, for a setting.
    pub fn file(&self, secret: &str) -> String {
        self.path(secret).to_string_lossy().into_owned()
    }

    /// Puts another folder behind the links, in one step. A secret that is not among these has no file then.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn swap(&self, version: &str, secrets: &[(&str, &str)]) -> io::Result<()> {
        let folder = self.0.join(version);
        fs::create_dir_all(&folder)?;
        for (secret, value) in secrets {
            fs::write(folder.join(secret), format!("{value}\n"))?;
        }
        let next = self.0.join("..next");
        symlink(Path::new(version), &next)?;
        fs::rename(next, self.0.join("..data"))
    }
}

impl Drop for SecretMount {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
