//! TLS over the engine's streams, both roles, against ourselves and against OpenSSL.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

mod common;

use std::process::{Command, Stdio};
use std::sync::Arc;

use annulus_engine::tls::TlsStream;
use annulus_engine::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use annulus_engine::tls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use annulus_engine::{Address, ListenOptions, Shard, SocketOptions};
use common::on_each_driver;

fn server() -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("tls/server.pem")).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn client(trusted: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if trusted {
        roots.add(CertificateDer::from_pem_slice(include_bytes!("tls/ca.pem")).unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn any_port() -> Address {
    Address::Ip(([127, 0, 0, 1], 0).into())
}

async fn dial(shard: &Shard, to: &Address, trusted: bool, name: &str) -> std::io::Result<TlsStream> {
    let stream = shard.connect(to, &SocketOptions::default()).await?;
    TlsStream::connect(stream, client(trusted), ServerName::try_from(name.to_owned()).unwrap()).await
}

/// Echoes until the peer's farewell, then says its own.
async fn echo(mut tls: TlsStream) {
    while let Some(bytes) = tls.recv().await.unwrap() {
        tls.send(&bytes).await.unwrap();
    }
    tls.finish().await.unwrap();
}

#[test]
fn megabytes_go_through_and_both_ends_say_farewell() {
    on_each_driver(1, |shard| async move {
        let listener = shard.listen(&any_port(), &ListenOptions::default()).unwrap();
        let address = listener.address().clone();
        let serving = shard.spawn(async move {
            let tls = TlsStream::accept(listener.accept().await, server()).await.unwrap();
            assert_eq!(tls.alpn(), Some(&b"http/1.1"[..]));
            echo(tls).await;
        });
        let mut tls = dial(&shard, &address, true, "localhost").await.unwrap();
        assert_eq!(tls.alpn(), Some(&b"http/1.1"[..]));
        let message: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
        let mut back = Vec::new();
        for part in message.chunks(100_000) {
            tls.send(part).await.unwrap();
            while back.len() < part.len() {
                back.extend(tls.recv().await.unwrap().unwrap());
            }
            assert!(back == part);
            back.clear();
        }
        tls.finish().await.unwrap();
        assert_eq!(tls.recv().await.unwrap(), None);
        serving.await.unwrap();
    });
}

#[test]
fn a_certificate_that_proves_nothing_is_refused_by_the_client() {
    on_each_driver(1, |shard| async move {
        let listener = shard.listen(&any_port(), &ListenOptions::default()).unwrap();
        let address = listener.address().clone();
        let serving = shard.spawn(async move {
            for _ in 0..2 {
                let refused = TlsStream::accept(listener.accept().await, server()).await.err().unwrap();
                assert_eq!(refused.kind(), std::io::ErrorKind::UnexpectedEof, "{refused}");
            }
        });
        let unknown = dial(&shard, &address, false, "localhost").await.err().unwrap();
        assert!(unknown.to_string().contains("UnknownIssuer"), "{unknown}");
        let other = dial(&shard, &address, true, "example.org").await.err().unwrap();
        assert!(other.to_string().contains("not valid for name"), "{other}");
        serving.await.unwrap();
    });
}

#[test]
fn a_cut_stream_and_plain_text_are_errors() {
    on_each_driver(1, |shard| async move {
        let listener = shard.listen(&any_port(), &ListenOptions::default()).unwrap();
        let address = listener.address().clone();
        let serving = shard.spawn(async move {
            let mut cut = TlsStream::accept(listener.accept().await, server()).await.unwrap();
            assert_eq!(cut.recv().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
            let plain = TlsStream::accept(listener.accept().await, server()).await.err().unwrap();
            assert_eq!(plain.kind(), std::io::ErrorKind::InvalidData);
        });
        drop(dial(&shard, &address, true, "localhost").await.unwrap());
        let mut stream = shard.connect(&address, &SocketOptions::default()).await.unwrap();
        stream.send_copy(&[b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"]).await.unwrap();
        serving.await.unwrap();
    });
}

#[test]
fn openssl_speaks_with_us() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!("NOT RUN: the openssl command is not installed");
        return;
    }
    on_each_driver(1, |shard| async move {
        for version in ["-tls1_2", "-tls1_3"] {
            let listener = shard.listen(&any_port(), &ListenOptions::default()).unwrap();
            let address = listener.address().to_string();
            let serving = shard.spawn(async move {
                echo(TlsStream::accept(listener.accept().await, server()).await.unwrap()).await;
            });
            let arguments = ["s_client", "-quiet", "-connect", &address, "-alpn", "h2", version, "-CAfile"];
            let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/ca.pem");
            let mut openssl = Command::new("openssl")
                .args(arguments)
                .args([authority, "-verify_return_error", "-servername", "localhost"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // The peer is a process: talk to it from a thread, so that the shard goes on.
            let (mut into, mut from) = (openssl.stdin.take().unwrap(), openssl.stdout.take().unwrap());
            let peer = std::thread::spawn(move || {
                use std::io::{Read, Write};
                into.write_all(b"hello from openssl\n").unwrap();
                let mut line = [0; 19];
                from.read_exact(&mut line).unwrap();
                drop(into);
                line
            });
            while !peer.is_finished() {
                shard.sleep(std::time::Duration::from_millis(5)).await;
            }
            assert_eq!(&peer.join().unwrap(), b"hello from openssl\n");
            openssl.kill().unwrap();
            openssl.wait().unwrap();
            // The killed process says no farewell, so serving ends by an error or with the stream.
            serving.abort();
        }
    });
}
