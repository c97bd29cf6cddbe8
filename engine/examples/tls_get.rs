//! Gets a page over TLS and prints its answer, head and all: a client on the engine.
//!
//! ```text
//!   cargo run --release -p annulus-engine --example tls_get -- example.com:443 /
//! ```

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::tls::TlsStream;
use annulus_engine::tls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use annulus_engine::tls::rustls::{ClientConfig, RootCertStore};
use annulus_engine::{Address, Engine, Shard, SocketOptions};

/// Where Debian keeps the authorities that it trusts; Fedora and others have them elsewhere below /etc/ssl or /etc/pki.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[allow(dead_code)] // Its tests have a main of their own.
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (server, path) = match &words[..] {
        [server] => (server.clone(), "/".to_owned()),
        [server, path] => (server.clone(), path.clone()),
        _ => {
            eprintln!("tls_get: expected a server and a path, as in example.com:443 /");
            return ExitCode::from(2);
        }
    };
    let main = move |shard: Shard| {
        let (server, path) = (server.clone(), path.clone());
        async move { get(&shard, &server, &path, Path::new(TRUSTED)).await }
    };
    let answer = Engine::builder().shards(1).compute(1).run(main).map_err(|error| error.to_string());
    match answer.and_then(|answers| answers.into_iter().collect::<Result<Vec<_>, _>>()) {
        Ok(answers) => {
            answers.iter().for_each(|answer| print!("{}", String::from_utf8_lossy(answer)));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("tls_get: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The answer for `path` from `server`, a name and a port, believed by the authorities in the file `trusted`.
///
/// # Errors
/// A sentence: what could not be done, and why.
pub async fn get(shard: &Shard, server: &str, path: &str, trusted: &Path) -> Result<Vec<u8>, String> {
    let (name, _) = server.rsplit_once(':').ok_or(format!("{server}: expected a name and a port"))?;
    let config = config(trusted)?;
    let proven = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} is no name of a server"))?;
    let answer = async {
        let address = resolved(shard, server).await?;
        let stream = shard.connect(&Address::Ip(address), &SocketOptions::default()).await;
        let stream = stream.map_err(|error| format!("{address}: cannot connect: {error}"))?;
        let mut tls = TlsStream::connect(stream, config, proven).await.map_err(|error| format!("{name}: {error}"))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        tls.send(request.as_bytes()).await.map_err(|error| format!("{name}: cannot send: {error}"))?;
        let mut answer = Vec::new();
        while let Some(bytes) = tls.recv().await.map_err(|error| format!("{name}: the answer broke off: {error}"))? {
            answer.extend(bytes);
        }
        Ok(answer)
    };
    shard.timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(format!("{server}: no answer within {PATIENCE:?}")))
}

/// The system's resolver blocks: it is asked on a compute thread.
async fn resolved(shard: &Shard, server: &str) -> Result<SocketAddr, String> {
    let asked = server.to_owned();
    let job = shard.compute(move || asked.to_socket_addrs().map(|mut found| found.next()));
    let found = job.map_err(|busy| busy.to_string())?.await.map_err(|error| error.to_string())?;
    found.map_err(|error| format!("{server}: {error}"))?.ok_or(format!("{server} has no address"))
}

fn config(trusted: &Path) -> Result<Arc<ClientConfig>, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", trusted.display());
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(trusted).map_err(|error| named(&error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| named(&error))?;
    // A system's collection may hold some that nobody can use; those are left out.
    if let (0, _) = roots.add_parsable_certificates(found) {
        return Err(named(&"there is no usable authority in it"));
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
