//! What clients do with the bucket themselves, at presigned addresses: put an original into `incoming/`, get an output.
//!
//! A presigned PUT limits no length: what was put is measured and judged when it is named, and removed when it is refused or
//! never named.

use rusty_s3::Method;

use super::client::Ask;
use super::reading::Outgoing;
use super::shelf::S3Shelf;
use crate::hex;
use crate::image::store::{Direct, Invitation, Key, Object, Pending, StoreError, Suffix};

/// Digits of an invitation's name.
const DIGITS: usize = 32;

impl S3Shelf {
    /// Where an invitation leads; `None`: its name is none.
    fn incoming(&self, invited: &str) -> Option<String> {
        let mut bytes = [0; DIGITS / 2];
        hex::decode_into(invited, &mut bytes)?;
        Some(format!("{}incoming/{invited}", self.client.site.settings.prefix))
    }
}

impl Direct for S3Shelf {
    fn invite(&self) -> Result<Invitation, StoreError> {
        let (site, name) = (&self.client.site, self.client.site.nameless("incoming")?);
        let url = site.presigned(&Ask::new(Method::Put, &name));
        Ok(Invitation { name: name[name.len() - DIGITS..].to_owned(), url, holds: site.settings.presigned })
    }

    fn collect(&self, invited: &str) -> Pending<'_, Option<Box<dyn Object>>> {
        let name = self.incoming(invited);
        Box::pin(async move {
            let Some(name) = name else { return Ok(None) };
            let Some(meta) = self.client.head(&name).await? else { return Ok(None) };
            // It has no key yet; this one is for sentences only.
            let key = Key { name: [0; 32], suffix: Suffix::Original };
            Ok(Some(Box::new(Outgoing::new(self.client.clone(), name, key, meta)) as Box<dyn Object>))
        })
    }

    fn discard(&self, invited: &str) -> Pending<'_, ()> {
        let name = self.incoming(invited);
        Box::pin(async move {
            match name {
                Some(name) => self.client.remove(&name).await,
                None => Ok(()),
            }
        })
    }

    fn link(&self, key: &Key, media_type: &str, disposition: &str) -> String {
        let site = &self.client.site;
        let query = [
            ("response-cache-control", "private, max-age=600"),
            ("response-content-disposition", disposition),
            ("response-content-type", media_type),
        ];
        site.presigned(&Ask { query: &query, ..Ask::new(Method::Get, &site.object(key)) })
    }
}
