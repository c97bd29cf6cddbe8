//! A PostgreSQL server of a test's own: in a temporary folder, on a port that nobody has, ended with the test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// How long starting and stopping may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    /// Whom it runs as, where we are root, whom it refuses to serve.
    identity: Option<(u32, u32)>,
    pub port: u16,
    process: Option<Child>,
}

impl Postgres {
    /// A new server with a superuser `annulus` who needs no password and a database of that name; or nothing where
    /// PostgreSQL is not installed, and then the group is reported.
    pub fn start(group: &str) -> Option<Postgres> {
        let Some(programs) = programs() else {
            super::not_run(group, "PostgreSQL is not installed");
            return None;
        };
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let identity = if is_root { Some(unprivileged()) } else { None };
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-postgres-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        if let Some((user, group)) = identity {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = Postgres { programs, folder, identity, port, process: None };
        let data = postgres.data();
        let words = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username=annulus", "--pgdata"];
        let made = postgres.command("initdb").args(words).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Its own durability is not what is tested here, and the disk is shared.
        postgres
            .configure("fsync = off\nshared_buffers = 32MB\nmax_connections = 120\nlisten_addresses = '127.0.0.1'\n");
        postgres.configure(&format!("port = {port}\nunix_socket_directories = '{}'\n", postgres.folder.display()));
        postgres.resume();
        postgres.sql_in("postgres", "CREATE DATABASE annulus");
        Some(postgres)
    }

    /// A hot standby of this server, which follows it by streaming.
    pub fn standby(&self) -> Postgres {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("annulus-postgres-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        if let Some((user, group)) = self.identity {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (programs, identity) = (self.programs.clone(), self.identity);
        let mut standby = Postgres { programs, folder, identity, port, process: None };
        let (host, from) = (self.folder.to_str().unwrap(), self.port.to_string());
        let words = ["-h", host, "-p", &from, "-U", "annulus", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"];
        let copied = standby.command("pg_basebackup").args(words).arg(standby.data()).output().unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        // The later line counts.
        standby.configure(&format!("port = {port}\nunix_socket_directories = '{}'\n", standby.folder.display()));
        standby.resume();
        standby
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where its Unix socket is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of the superuser without TLS.
    pub fn url(&self) -> String {
        format!("postgres://annulus@127.0.0.1:{}/annulus?sslmode=disable", self.port)
    }

    /// Adds lines to `postgresql.conf`, for the next start.
    pub fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        fs::write(&path, fs::read_to_string(&path).unwrap() + lines).unwrap();
    }

    /// Puts lines in front of `pg_hba.conf`, for the next start.
    pub fn let_in(&self, lines: &str) {
        let path = self.data().join("pg_hba.conf");
        fs::write(&path, lines.to_owned() + &fs::read_to_string(&path).unwrap()).unwrap();
    }

    /// Copies a file in, readable for the server alone; its path.
    pub fn give(&self, from: &Path, name: &str) -> PathBuf {
        let path = self.data().join(name);
        fs::copy(from, &path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if let Some((user, group)) = self.identity {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    /// Runs statements as the superuser; what `psql` prints of them, unaligned.
    pub fn sql(&self, words: &str) -> String {
        self.sql_in("annulus", words)
    }

    fn sql_in(&self, database: &str, words: &str) -> String {
        let host = self.folder.to_str().unwrap();
        let output = self
            .command("psql")
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", host, "-U", "annulus", "-d", database])
            .args(["-p", &self.port.to_string(), "-c", words])
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Ends the server at once, connections and all, as a crash of it would.
    pub fn crash(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // SIGQUIT, "immediate shutdown": its children go, too, and it recovers at the next start.
        let signal = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status().unwrap();
        assert!(signal.success());
        process.wait().unwrap();
    }

    /// Starts it again.
    pub fn resume(&mut self) {
        let data = self.data();
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut server = self.command("postgres");
        server.arg("-D").arg(data).stdout(Stdio::null()).stderr(log).stdin(Stdio::null());
        self.process = Some(server.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while !self.is_ready() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "PostgreSQL did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts it again with what was configured meanwhile.
    pub fn restart(&mut self) {
        self.crash();
        self.resume();
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        if TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            return false;
        }
        let port = self.port.to_string();
        let host = self.folder.to_str().unwrap();
        let words = ["-X", "-h", host, "-p", &port, "-U", "annulus", "-d", "postgres", "-c", "SELECT 1"];
        self.command("psql").args(words).output().unwrap().status.success()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some((user, group)) = self.identity {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
        let _temporary = fs::remove_dir_all(&self.folder);
    }
}

/// The folder of the newest server's programs: distributions keep them beside each other.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.sort_by_key(|path| {
        let version = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        std::cmp::Reverse(version.and_then(|version| version.parse::<u32>().ok()))
    });
    found.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let is_whole = |path: &&PathBuf| ["initdb", "postgres", "psql"].iter().all(|program| path.join(program).is_file());
    found.iter().find(is_whole).cloned()
}

/// `postgres` or `nobody`.
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields.find(|fields| fields.first() == Some(&name))?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("every Linux has nobody")
}
