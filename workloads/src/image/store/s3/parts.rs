//! An upload in parts: begun, fed, and then completed or given up. What is dropped in between is aborted if the shard
//! lives on, and swept if it does not.

use std::rc::Rc;

use rusty_s3::Method;

use super::Parcel;
use super::calls::{Placed, ended_well, not_understood};
use super::client::{Ask, Client};
use super::trouble::Trouble;
use super::xml::{Node, escape};
use crate::image::store::StoreError;

/// See the module's description.
pub(super) struct Parts {
    client: Rc<Client>,
    name: String,
    id: String,
    /// What the store calls each part that it has.
    tags: Vec<String>,
    /// Whether nothing of it is left to be removed.
    ended: bool,
}

impl Parts {
    /// Begins an upload of an object of this name.
    pub(super) async fn begin(client: &Rc<Client>, name: String, kind: &str) -> Result<Parts, StoreError> {
        let fields = [("content-type", kind)];
        let ask = Ask { query: &[("uploads", "")], fields: &fields, ..Ask::new(Method::Post, &name) };
        let begun = client.ask(&ask).await;
        let id = begun.and_then(|heard| {
            let node = Node::parse(heard.text());
            let id = node.as_ref().and_then(|node| node.text("UploadId")).filter(|id| !id.is_empty());
            id.map(str::to_owned).ok_or_else(|| not_understood("an upload's id"))
        });
        let id = id.map_err(|trouble| client.told(&trouble, "beginning an upload of", &name))?;
        Ok(Parts { client: client.clone(), name, id, tags: Vec::new(), ended: false })
    }

    /// Takes it along to a thread; it is not aborted there when it is dropped.
    pub(super) fn into_parcel(mut self) -> Parcel {
        self.ended = true;
        let [name, id] = [&mut self.name, &mut self.id].map(std::mem::take);
        Parcel { name, id, tags: std::mem::take(&mut self.tags) }
    }

    /// What a thread brings back.
    pub(super) fn of_parcel(client: &Rc<Client>, parcel: Parcel) -> Parts {
        let Parcel { name, id, tags } = parcel;
        Parts { client: client.clone(), name, id, tags, ended: false }
    }

    /// Uploads the next part: of [`PART_BYTES_MIN`](super::settings::PART_BYTES_MIN) at least, unless it is the last.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let number = (self.tags.len() + 1).to_string();
        let query = [("partNumber", &number[..]), ("uploadId", &self.id[..])];
        let ask = Ask { query: &query, body: Some(bytes), ..Ask::new(Method::Put, &self.name) };
        let pushed = self.client.ask(&ask).await;
        let tag = pushed.and_then(|heard| {
            heard.fields.text("etag").map(str::to_owned).ok_or_else(|| not_understood("a part's ETag"))
        });
        let doing = "uploading a part of";
        self.tags.push(tag.map_err(|trouble| self.client.told(&trouble, doing, &self.name))?);
        Ok(())
    }

    /// Makes an object of the parts; with `once` only where there is none, and the parts are removed if there is.
    pub(super) async fn complete(mut self, once: bool) -> Result<Placed, StoreError> {
        let mut document = String::from("<CompleteMultipartUpload>");
        for (index, tag) in self.tags.iter().enumerate() {
            let (number, tag) = (index + 1, escape(tag));
            document += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
        }
        document += "</CompleteMultipartUpload>";
        let conditional = [("content-type", "application/xml"), ("if-none-match", "*")];
        let fields = if once { &conditional[..] } else { &conditional[..1] };
        let query = [("uploadId", &self.id[..])];
        let body = Some(document.as_bytes());
        let ask = Ask { query: &query, fields, body, ..Ask::new(Method::Post, &self.name) };
        let completed = match self.client.ask(&ask).await {
            Ok(heard) => ended_well(heard.text(), "CompleteMultipartUploadResult").map(drop),
            Err(trouble) => Err(trouble),
        };
        match completed {
            Ok(()) => {
                self.ended = true;
                Ok(Placed::Created)
            }
            Err(trouble) if trouble.is_precondition() => {
                self.abort().await?;
                Ok(Placed::Existed)
            }
            // No such upload: an attempt before this one was done, and only its answer was lost.
            Err(trouble) if trouble.is_missing() && self.client.head(&self.name).await?.is_some() => {
                self.ended = true;
                Ok(Placed::Created)
            }
            Err(trouble) => Err(self.client.told(&trouble, "completing the upload of", &self.name)),
        }
    }

    /// Gives it up, and has the store forget its parts.
    pub(super) async fn abort(mut self) -> Result<(), StoreError> {
        self.ended = true;
        let aborted = abort(&self.client, &self.name, &self.id).await;
        aborted.map_err(|trouble| self.client.told(&trouble, "giving up the upload of", &self.name))
    }
}

/// Has the store forget an upload; one that is not there is fine.
pub(super) async fn abort(client: &Client, name: &str, id: &str) -> Result<(), Trouble> {
    let ask = Ask { query: &[("uploadId", id)], ..Ask::new(Method::Delete, name) };
    match client.ask(&ask).await {
        Ok(_) => Ok(()),
        Err(trouble) if trouble.is_missing() => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (client, name, id) = (self.client.clone(), std::mem::take(&mut self.name), std::mem::take(&mut self.id));
        let shard = client.shard.clone();
        // What cannot be removed now is swept later.
        drop(shard.spawn(async move { drop(abort(&client, &name, &id).await) }));
    }
}
