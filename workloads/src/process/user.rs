//! Whom a server becomes that root started, before it reads anything but its configuration and after its ports are open.
//!
//! Names are looked up in `/etc/passwd` and `/etc/group`; whoever is only known elsewhere is given by numbers.
//!
//! ```text
//!   one thread? ─► no new privileges ─► its groups, and no others ─► gid ─► uid ─► root again? must fail
//! ```

use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// No number of anybody: to the kernel it says "leave it as it is" (setresuid(2)), which is root.
const NOBODYS: u32 = u32::MAX;

/// A user, with all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl User {
    /// Finds one by `NAME`, or by `UID:GID`.
    ///
    /// # Errors
    /// A sentence: there is no such user, or it is root, or in root's group.
    pub fn find(text: &str) -> Result<User, String> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let user = User::among(text, &read("/etc/passwd"), &read("/etc/group"))?;
        user.check(text)?;
        Ok(user)
    }

    /// Its number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    fn check(&self, text: &str) -> Result<(), String> {
        if self.uid == 0 {
            return Err(format!("user {text:?} is root: name one that may do less"));
        }
        if self.groups.contains(&0) {
            return Err(format!(
                "user {text:?} is in group 0, which is root's: name one that is not, or give UID:GID with another group"
            ));
        }
        if self.uid == NOBODYS || self.groups.contains(&NOBODYS) {
            return Err(format!("user {text:?}: {NOBODYS} is nobody's number"));
        }
        Ok(())
    }

    fn among(text: &str, users: &str, groups: &str) -> Result<User, String> {
        if let Some((uid, gid)) = text.split_once(':') {
            let number = |text: &str| text.parse().map_err(|_| format!("user {text:?}: expected a name, or UID:GID"));
            let (uid, gid) = (number(uid)?, number(gid)?);
            return Ok(User { uid, gid, groups: vec![gid] });
        }
        // name:password:uid:gid:...
        let found = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == text);
        let numbers = found.and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
        let Some((uid, gid)) = numbers else {
            return Err(format!("there is no user {text:?} in /etc/passwd: name one, or give UID:GID"));
        };
        // name:password:gid:member,member
        let further = groups.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_member = fields.get(3)?.split(',').any(|member| member == text);
            fields[2].parse().ok().filter(|_| is_member)
        });
        let mut groups: Vec<u32> = std::iter::once(gid).chain(further).collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(User { uid, gid, groups })
    }

    /// Becomes it, for ever. What is set is the calling thread's, and those that it starts have it from there: so it is done
    /// while there is one thread.
    ///
    /// # Errors
    /// A sentence: we may not, or a part of the process would stay root's. The process must not go on then, for it may have
    /// become somebody else by half.
    pub fn become_it(&self) -> Result<(), String> {
        let failed = |error: Errno| format!("the server cannot become user {}: {error}", self.uid);
        if geteuid().as_raw() == self.uid {
            return self.stay();
        }
        if !geteuid().is_root() {
            return Err(format!(
                "only root can make a server another user's: leave --user out, or start it as {}",
                self.uid
            ));
        }
        match threads() {
            Ok(1) => {}
            Ok(threads) => {
                return Err(format!(
                    "the server cannot become user {}: it has {threads} threads already, and all but one would stay root's",
                    self.uid
                ));
            }
            Err(error) => {
                return Err(format!(
                    "the server cannot become user {}: how many threads it has is in /proc/self/task, which cannot be read: {error}",
                    self.uid
                ));
            }
        }
        let groups: Vec<Gid> = self.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        // First: from here on not even a program with the bit of set-user-ID gives anything back.
        set_no_new_privs(true).map_err(failed)?;
        // In place of root's, all of which are gone with this.
        set_thread_groups(&groups).map_err(failed)?;
        set_thread_res_gid(gid, gid, gid).map_err(failed)?;
        // Capabilities go with it.
        set_thread_res_uid(uid, uid, uid).map_err(failed)?;
        self.stay()
    }

    /// Sees that there is no way back: by the numbers that are kept beside the one in force, or by a capability.
    fn stay(&self) -> Result<(), String> {
        let is_root = set_thread_res_uid(None, Uid::ROOT, None).is_ok();
        let is_of_root = set_thread_res_gid(None, Gid::ROOT, None).is_ok();
        match is_root || is_of_root {
            true => Err(format!(
                "user {} could become root again. Likely cause: the server was started in root's group, with CAP_SETUID or \
                 CAP_SETGID, or by a program with the bit of set-user-ID. Fix: start it as that user without them, or as root",
                self.uid
            )),
            false => Ok(()),
        }
    }
}

/// How many threads this process has.
fn threads() -> std::io::Result<usize> {
    std::fs::read_dir("/proc/self/task").map(Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/false\nbroken:x\nops:x:50:51::/:\n";
    const GROUPS: &str = "root:x:0:ops\nweb:x:34:\nkeys:x:105:other,web\nlogs:x:7:webber\n\n";

    #[test]
    fn users_are_found_with_their_groups() {
        let found = User::among("web", USERS, GROUPS).unwrap();
        assert_eq!(found, User { uid: 33, gid: 34, groups: vec![34, 105] });
        assert!(found.check("web").is_ok());
        let found = User::among("1000:1001", USERS, GROUPS).unwrap();
        assert_eq!(found, User { uid: 1000, gid: 1001, groups: vec![1001] });
        for nobody in ["", "we", "broken", "33", "web:34", "33:", "-1:5", "4294967296:5"] {
            assert!(User::among(nobody, USERS, GROUPS).is_err(), "{nobody:?}");
        }
    }

    #[test]
    fn root_its_group_and_numbers_that_mean_nobody_are_refused() {
        for (text, says) in [
            ("0:0", "is root"),
            ("0:5", "is root"),
            ("5:0", "is in group 0"),
            // Given to setresuid(2), this would leave the server root's.
            ("4294967295:5", "nobody's number"),
            ("5:4294967295", "nobody's number"),
        ] {
            let refused = User::find(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
        let further = User::among("ops", USERS, GROUPS).unwrap();
        assert!(further.check("ops").unwrap_err().contains("is in group 0"));
    }

    #[test]
    fn a_process_of_several_threads_does_not_become_another_by_one_of_them() {
        let user = User::find("65534:65534").unwrap();
        let refused = std::thread::spawn(move || user.become_it().unwrap_err()).join().unwrap();
        let says = if geteuid().is_root() { "threads already" } else { "only root" };
        assert!(refused.contains(says), "{refused}");
    }
}
