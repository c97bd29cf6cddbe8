//! Where the queue is: keys `redis` and `redis_prefix` of `[image]`.

use crate::redis::Settings;

/// How the queue's Redis is reached, and what its keys begin with.
#[derive(Clone, Debug)]
pub struct RedisQueueSettings {
    /// The server or cluster.
    pub redis: Settings,
    /// Installations that share a Redis differ in it.
    pub prefix: String,
}

impl RedisQueueSettings {
    /// Longest prefix.
    const PREFIX_MAX: usize = 64;

    /// The prefix of those who name none.
    pub const PREFIX: &'static str = "annulus";

    /// Reads a URL and a prefix.
    ///
    /// # Errors
    /// What is wrong with them, without the password.
    pub fn new(url: &str, prefix: &str) -> Result<RedisQueueSettings, String> {
        Ok(RedisQueueSettings { redis: Settings::parse(url)?, prefix: Self::checked(prefix)? })
    }

    /// A prefix that is none of Redis Cluster's signs.
    pub(crate) fn checked(prefix: &str) -> Result<String, String> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        match (1..=Self::PREFIX_MAX).contains(&prefix.len()) && prefix.bytes().all(fine) {
            true => Ok(prefix.to_owned()),
            false => Err(format!("expected 1 to {} letters, digits, - _ . or :", Self::PREFIX_MAX)),
        }
    }

    /// What all keys begin with. Its hash tag keeps them in one slot of a cluster, where scripts reach all of them.
    pub(super) fn base(&self) -> String {
        format!("{{{}:image}}", self.prefix)
    }
}
