//! Certificates by OpenSSL's command: an authority, and certificates for 127.0.0.1 that are valid, or were until yesterday.

use super::finding::Trouble;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXTENSIONS: &str = "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n";

/// An authority in a folder.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// That OpenSSL is not installed, or a sentence of its own.
    pub fn new(folder: &Path) -> Result<Authority, Trouble> {
        let missing = |error| Trouble::NotRun(format!("openssl is not installed: {error}"));
        Command::new("openssl").arg("version").output().map_err(missing)?;
        let authority = Authority { folder: folder.to_owned() };
        let file = folder.join("extensions");
        std::fs::write(&file, EXTENSIONS).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=an authority of faults",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-keyout",
            "authority.key",
            "-out",
            "authority.pem",
        ])?;
        Ok(authority)
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// Where the server's certificate and its key are.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("server.pem"), self.folder.join("server.key"))
    }

    /// Puts a certificate there that is good for so many days from now; negative, it is over.
    ///
    /// # Errors
    /// A sentence: OpenSSL's.
    pub fn issue(&self, days: i32) -> Result<(), String> {
        self.openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=127.0.0.1",
            "-keyout",
            "next.key",
            "-out",
            "server.csr",
        ])?;
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "authority.pem",
            "-CAkey",
            "authority.key",
            "-CAcreateserial",
            "-days",
            &days.to_string(),
            "-extfile",
            "extensions",
            "-out",
            "next.pem",
        ])?;
        let put = |from: &str, to: &Path| std::fs::rename(self.folder.join(from), to);
        let (certificate, key) = self.server();
        put("next.key", &key).and_then(|()| put("next.pem", &certificate)).map_err(|error| error.to_string())
    }

    fn openssl(&self, words: &[&str]) -> Result<(), String> {
        let output = Command::new("openssl").args(words).current_dir(&self.folder).output();
        let output = output.map_err(|error| format!("cannot run openssl: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("openssl {}: {}", words[0], String::from_utf8_lossy(&output.stderr).trim())),
        }
    }
}
