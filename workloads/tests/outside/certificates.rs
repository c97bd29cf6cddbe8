//! Certificates of a test's own, made by OpenSSL's command.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// An authority, with a folder for what it signs; removed with the test.
pub struct Authority {
    folder: PathBuf,
}

/// A chain and its key, as files.
pub struct Certified {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new one, or nothing where OpenSSL is not installed; then the group is reported.
    pub fn new(group: &str) -> Option<Authority> {
        if !super::has("openssl", group) {
            return None;
        }
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-certificates-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let authority = Authority { folder };
        // Two of the same name would be taken for one whose signatures are wrong.
        let subject = format!("/CN=test authority {number}");
        authority.make("authority", &["-addext", "basicConstraints=critical,CA:TRUE", "-subj", &subject]);
        Some(authority)
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// Signs a certificate for a host's name or a client, whose common name it is too.
    pub fn issue(&self, name: &str) -> Certified {
        let (pem, key) = (self.folder.join("authority.pem"), self.folder.join("authority.key"));
        let (subject, alternative) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
        let signed = ["-CA", pem.to_str().unwrap(), "-CAkey", key.to_str().unwrap(), "-subj", &subject];
        let extensions = ["-addext", &alternative, "-addext", "basicConstraints=critical,CA:FALSE"];
        self.make(name, &[&signed[..], &extensions].concat())
    }

    fn make(&self, name: &str, arguments: &[&str]) -> Certified {
        let (chain, key) = (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")));
        let new =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"];
        let files = ["-out", chain.to_str().unwrap(), "-keyout", key.to_str().unwrap()];
        let made = Command::new("openssl").args(new).args(arguments).args(files).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Certified { chain, key }
    }
}

impl Certified {
    /// Puts this certificate and key where others were.
    pub fn replace(&self, others: &Certified) {
        copy(&self.key, &others.key);
        copy(&self.chain, &others.chain);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _temporary = std::fs::remove_dir_all(&self.folder);
    }
}
