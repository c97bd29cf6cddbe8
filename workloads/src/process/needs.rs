//! What of the machine the configured services need: the files and folders that [`walls`](super::walls) leave open.
//!
//! A file is named by its folder: careful editors and certificate renewers replace files, and what the kernel's rule is
//! about is the file that was there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::gateway::config::model::KeySource;
use crate::gateway::{config, tls};
use crate::image::lanes::cpu::Isolation;
use crate::image::lanes::gpu::settings::Mode;
use crate::{chat, image, redis};

/// What every server reads: names and authorities, the time zone, programs' libraries, and what the kernel says of itself.
const READ: [&str; 8] = ["/etc", "/proc", "/sys", "/usr", "/lib", "/lib64", "/run/systemd/resolve", "/dev/urandom"];
/// What of them is a link on some systems, to where another program writes it anew: names, services, the time.
const LINKED: [&str; 8] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
];
/// What a program of ours that is started again is run by.
const LOADERS: [&str; 4] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and folders to read.
    pub read: Vec<PathBuf>,
    /// Files and folders to change.
    pub write: Vec<PathBuf>,
    /// Programs to run: ourselves, for codecs and for the names of stacks.
    pub run: Vec<PathBuf>,
    /// Devices with orders of their own: GPUs.
    pub devices: Vec<PathBuf>,
    /// Ports to listen on; 0: any.
    pub ports: Vec<u16>,
}

impl Needs {
    /// What every server needs.
    pub fn new() -> Needs {
        let libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let libraries = std::env::split_paths(&libraries).filter(|path| !path.as_os_str().is_empty());
        let linked = LINKED.iter().filter_map(|link| behind(Path::new(link)));
        Needs {
            read: READ.iter().map(PathBuf::from).chain(libraries).chain(linked).collect(),
            write: vec!["/dev/null".into()],
            run: std::iter::once(PathBuf::from("/proc/self/exe")).chain(LOADERS.iter().map(PathBuf::from)).collect(),
            ..Needs::default()
        }
    }

    /// A file to read, which may be replaced by another.
    pub fn read_file(&mut self, file: &Path) {
        // Where a link leads is read, and where it is may lead elsewhere one day.
        let real = file.canonicalize().ok();
        for file in real.as_deref().into_iter().chain([file]) {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // A file at the very top opens itself, and not everything.
            let what = if folder == Path::new("/") { file } else { folder };
            if !self.read.iter().any(|known| known == what) {
                self.read.push(what.to_owned());
            }
        }
    }

    fn read_files<'p>(&mut self, files: impl IntoIterator<Item = &'p Path>) {
        files.into_iter().for_each(|file| self.read_file(file));
    }

    /// The gateway's.
    pub fn add_gateway(&mut self, gateway: &config::Gateway) {
        self.read_files(tls::files(gateway).iter().map(PathBuf::as_path));
        let key_sets = gateway.endpoints.iter().filter_map(|endpoint| match &endpoint.validator.as_ref()?.keys {
            KeySource::File(path) => Some(path.as_path()),
            KeySource::Url(_) => None,
        });
        self.read_files(key_sets);
        self.read_files(gateway.rate_limit_store.as_ref().and_then(|store| store.redis.file()));
        self.ports.push(gateway.listen.port);
    }

    /// The chat's.
    pub fn add_chat(&mut self, config: &chat::Config) {
        self.read_files(config.files());
        self.write.extend(config.log.directory.clone());
        if let chat::config::Database::Sqlite { directory } = &config.database {
            self.write.push(directory.clone());
        }
        if let chat::config::Database::Postgres { url, .. } = &config.database {
            self.add_postgres(crate::postgres::Target::parse(url.reveal()).ok().as_ref());
        }
        let redis = config.broker.as_ref().and_then(|broker| redis::Settings::parse(broker.redis.reveal()).ok());
        self.read_files(redis.as_ref().and_then(redis::Settings::file));
        self.ports.push(config.listen.port());
    }

    /// The image service's.
    pub fn add_image(&mut self, config: &image::config::Config) {
        self.read_files(config.watermarks.iter().map(|(_, file)| file.as_path()));
        self.read_files(config.tls.iter().flat_map(|(chain, key)| [chain.as_path(), key.as_path()]));
        self.read_files(config.redis.as_ref().and_then(|queue| queue.redis.file()));
        self.add_postgres(config.audit.as_ref());
        self.write.push(config.data_dir.clone());
        if config.isolation == Isolation::Process {
            // A worker says there that it is to go first when memory is short.
            self.write.push("/proc".into());
        }
        if config.gpu.mode != Mode::Off {
            let nodes = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
            let is_gpu =
                |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nvidia"));
            self.devices.extend(nodes.filter(is_gpu));
            self.read.push("/opt".into());
        }
        self.ports.push(config.listen.port());
    }

    fn add_postgres(&mut self, target: Option<&crate::postgres::Target>) {
        let files = target.into_iter().flat_map(|target| [&target.ssl_root_cert, &target.ssl_cert, &target.ssl_key]);
        self.read_files(files.flatten().map(PathBuf::as_path));
    }

    /// What is not chosen by a service.
    pub fn add_process(&mut self, handover: Option<&Path>, console: Option<SocketAddr>, files: &[Option<&Path>]) {
        self.read_files(files.iter().copied().flatten());
        self.ports.extend(console.map(|listen| listen.port()));
        if let Some(path) = handover {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            self.write.push(folder.to_owned());
        }
    }

    /// Makes the folders to be changed: a rule can only be made of what is there.
    ///
    /// # Errors
    /// A sentence.
    pub fn make_folders(&self) -> Result<(), String> {
        for folder in &self.write {
            if !folder.exists() {
                crate::durable::make_directory(folder).map_err(|error| {
                    format!(
                        "{} cannot be made: {error}. Choose another with --data DIR, or --handover PATH",
                        folder.display()
                    )
                })?;
            }
        }
        Ok(())
    }
}

/// What has to be open for a link of the system's to be read: the folder that it leads to, because the file there is replaced,
/// unless that folder is one of the large ones at the top, such as `/run`. `None`: the file is no link.
fn behind(link: &Path) -> Option<PathBuf> {
    let to = link.read_link().ok()?;
    // Who writes the file may begin after us: the last link leads there all the same.
    let file = link.canonicalize().unwrap_or_else(|_| link.parent().unwrap_or(Path::new("/")).join(to));
    let folder = file.parent().filter(|folder| folder.components().count() > 2);
    Some(folder.filter(|folder| folder.is_dir()).unwrap_or(&file).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_system_open_where_they_lead() {
        let home = std::env::temp_dir().join(format!("annulus-links-{}", std::process::id()));
        let folder = home.join("run/network");
        std::fs::create_dir_all(&folder).unwrap();
        let folder = folder.canonicalize().unwrap();
        let link = home.join("resolv.conf");
        let lead = |to: &Path| {
            let _absent = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(to, &link).unwrap();
        };
        lead(&folder.join("resolv.conf"));
        assert_eq!(behind(&link), Some(folder.clone()), "nobody has written it yet");
        std::fs::write(folder.join("resolv.conf"), "").unwrap();
        assert_eq!(behind(&link), Some(folder.clone()));
        lead(Path::new("run/network/resolv.conf"));
        assert_eq!(behind(&link), Some(folder.clone()), "relative to where the link is");
        lead(Path::new("/etc/passwd"));
        assert_eq!(behind(&link), Some("/etc/passwd".into()), "and not all that is at the top");
        assert_eq!(behind(&folder.join("resolv.conf")), None, "no link");
        assert_eq!(behind(&home.join("nowhere")), None);
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_file_opens_its_folder_and_one_at_the_top_itself() {
        let mut needs = Needs::default();
        needs.read_file(Path::new("/etc/hostname"));
        needs.read_file(Path::new("/etc/hosts"));
        needs.read_file(Path::new("/nowhere.pem"));
        needs.read_file(Path::new("here.toml"));
        assert!(needs.read.contains(&"/etc".into()) && needs.read.contains(&"/nowhere.pem".into()));
        assert!(needs.read.contains(&".".into()) && !needs.read.contains(&"/".into()), "{:?}", needs.read);
        assert_eq!(needs.read.iter().filter(|path| *path == Path::new("/etc")).count(), 1);
    }
}
