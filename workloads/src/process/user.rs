//! Whom a server becomes that root started, before it reads anything but its configuration and after its ports are open.
//!
//! Names are looked up in `/etc/passwd` and `/etc/group`; whoever is only known elsewhere is given by numbers.

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

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
    /// A sentence: there is no such user, or it is root.
    pub fn find(text: &str) -> Result<User, String> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let user = User::among(text, &read("/etc/passwd"), &read("/etc/group"))?;
        match user.uid {
            0 => Err(format!("user {text:?} is root: name one that may do less")),
            _ => Ok(user),
        }
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

    /// Becomes it, for ever. The process must have one thread: what is set is the calling thread's, and those that it starts
    /// have it from there.
    ///
    /// # Errors
    /// A sentence: we may not.
    pub fn become_it(&self) -> Result<(), String> {
        if geteuid().as_raw() == self.uid {
            return Ok(());
        }
        let failed = |error: rustix::io::Errno| format!("the server cannot become user {}: {error}", self.uid);
        if !geteuid().is_root() {
            return Err(format!(
                "only root can make a server another user's: leave --user out, or start it as {}",
                self.uid
            ));
        }
        let groups: Vec<Gid> = self.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&groups).map_err(failed)?;
        set_thread_res_gid(gid, gid, gid).map_err(failed)?;
        // Capabilities go with it.
        set_thread_res_uid(uid, uid, uid).map_err(failed)?;
        set_no_new_privs(true).map_err(failed)?;
        if set_thread_res_uid(None, Uid::ROOT, None).is_ok() {
            return Err(format!("user {} could become root again", self.uid));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/false\nbroken:x\n";
    const GROUPS: &str = "root:x:0:\nweb:x:34:\nkeys:x:105:other,web\nlogs:x:7:webber\n\n";

    #[test]
    fn users_are_found_with_their_groups() {
        let found = User::among("web", USERS, GROUPS).unwrap();
        assert_eq!(found, User { uid: 33, gid: 34, groups: vec![34, 105] });
        let found = User::among("1000:1001", USERS, GROUPS).unwrap();
        assert_eq!(found, User { uid: 1000, gid: 1001, groups: vec![1001] });
        for nobody in ["", "we", "broken", "33", "web:34", "33:"] {
            assert!(User::among(nobody, USERS, GROUPS).is_err(), "{nobody:?}");
        }
        assert!(User::find("0:0").unwrap_err().contains("is root"));
    }
}
