//! A PostgreSQL server of a run's own: on a free port, in a folder, ended when dropped. What it acknowledges is synced.

use crate::janitor;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long starting may take, recovery included.
const START_MAX: Duration = Duration::from_secs(60);

/// See the module's description.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    /// Whom it runs as where we are root, whom it refuses to serve.
    identity: Option<(u32, u32)>,
    /// Where it is.
    pub address: SocketAddr,
    child: Option<Child>,
}

impl Postgres {
    /// Makes one with a superuser `annulus`, who needs no password, and a database of that name.
    ///
    /// # Errors
    /// A sentence: it is not installed, or does not start.
    pub fn start(folder: &Path) -> Result<Postgres, String> {
        let programs = programs().ok_or("PostgreSQL is not installed: make setup-test installs it")?;
        std::fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        let identity = if is_root { Some(unprivileged()?) } else { None };
        if let Some((user, group)) = identity {
            chown(folder, Some(user), Some(group)).map_err(|error| error.to_string())?;
        }
        let address = super::free_address()?;
        let mut postgres = Postgres { programs, folder: folder.to_owned(), identity, address, child: None };
        let data = postgres.data();
        let words = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username=annulus", "--pgdata"];
        said(postgres.command("initdb").args(words).arg(&data))?;
        let file = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let lines = format!(
            "shared_buffers = 32MB\nmax_connections = 120\nlisten_addresses = '127.0.0.1'\nport = {}\n\
             unix_socket_directories = '{}'\n",
            address.port(),
            folder.display()
        );
        std::fs::write(&file, text + &lines).map_err(|error| error.to_string())?;
        postgres.start_again()?;
        postgres.ask("postgres", "CREATE DATABASE annulus")?;
        Ok(postgres)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// As [`Postgres::url`], by way of somebody else's address.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://annulus@{address}/annulus?sslmode=disable")
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Kills all its processes with `kill -9`; it is not there until [`Postgres::start_again`].
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // The first one before the others, or it starts them anew.
        janitor::end_tree(child.id());
        let _reaped = child.wait();
    }

    /// Starts it where it was.
    ///
    /// # Errors
    /// A sentence: it does not.
    pub fn start_again(&mut self) -> Result<(), String> {
        let data = self.data();
        // Of a server that was killed: it would be taken for one that runs.
        let _there_may_be_none = std::fs::remove_file(data.join("postmaster.pid"));
        let mut server = self.command("postgres");
        server.arg("-D").arg(&data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(janitor::spawn(&mut server).map_err(|error| format!("cannot start postgres: {error}"))?);
        let started = Instant::now();
        while let Err(why) = self.ask("postgres", "SELECT 1") {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().ok().flatten().is_some());
            if ended || started.elapsed() > START_MAX {
                return Err(format!("PostgreSQL does not start: {why}"));
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    }

    /// Runs a statement; what `psql` prints of it.
    ///
    /// # Errors
    /// A sentence: what it says instead.
    pub fn sql(&self, words: &str) -> Result<String, String> {
        self.ask("annulus", words)
    }

    fn ask(&self, database: &str, words: &str) -> Result<String, String> {
        let host = self.folder.to_string_lossy().into_owned();
        let mut psql = self.command("psql");
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", &host, "-U", "annulus", "-d", database]);
        psql.args(["-p", &self.address.port().to_string(), "-c", words]);
        said(&mut psql)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
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
        self.kill();
    }
}

fn said(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// The folder of the newest server's programs: distributions keep them beside each other.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
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
fn unprivileged() -> Result<(u32, u32), String> {
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    let find = |name: &str| {
        let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields.find(|fields| fields.first() == Some(&name))?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).ok_or_else(|| "there is neither a user postgres nor nobody".to_owned())
}
