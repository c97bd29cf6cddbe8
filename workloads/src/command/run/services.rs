//! What runs on every shard.

use std::net::SocketAddr;
use std::sync::Arc;

use annulus_engine::Shard;
use annulus_engine::metrics::ShardMetrics;

use crate::chat::node::Node;
use crate::chat::serve;
use crate::console::{Console, Service, Shown};
use crate::gateway::reload::Editions;
use crate::gateway::service;
use crate::image::service::Image;
use crate::process::supervisor::Supervisor;

/// What runs on every shard.
#[derive(Clone)]
pub(super) struct Started {
    pub(super) chat: Option<Arc<Node>>,
    pub(super) gateway: Option<Arc<Editions>>,
    pub(super) image: Option<Arc<Image>>,
    pub(super) console: Option<Arc<Console>>,
    /// Who started the process, where that wants to hear of it.
    pub(super) supervisor: Option<Arc<Supervisor>>,
}

impl Shown for Started {
    fn services(&self) -> Vec<Service> {
        let chat = self.chat.as_ref().map(|chat| Service {
            name: "chat",
            about: "rooms, presence and history for Centrifuge clients",
            url: chat.url(),
            pages: [("page", "/")].into_iter().chain(chat.console().map(|path| ("console", path))).collect(),
        });
        let gateway = self.gateway.as_ref().map(|editions| {
            let gateway = editions.in_force().gateway;
            let scheme = if gateway.tls.is_some() { "https" } else { "http" };
            let address = SocketAddr::new(gateway.listen.ip, gateway.listen.port);
            Service {
                name: "gateway",
                about: "one answer out of many services' answers",
                url: format!("{scheme}://{address}"),
                pages: vec![("dashboard", "/__dashboard")],
            }
        });
        let image = self.image.as_ref().map(|image| Service {
            name: "image",
            about: "uploads, processing and delivery of images",
            url: image.url(),
            pages: vec![("page", "/"), ("console", "/console")],
        });
        [chat, gateway, image].into_iter().flatten().collect()
    }

    fn refresh(&self, first: &ShardMetrics) {
        if let Some(image) = &self.image {
            image.show(first);
        }
    }
}

/// One shard's services. If one cannot start, the whole process ends: half of them is not what was asked for.
pub(super) async fn services(shard: Shard, started: Started) -> Result<(), String> {
    let mut others = Vec::new();
    if let Some(supervisor) = started.supervisor.clone() {
        let on = shard.clone();
        let _until_the_end = shard.spawn(async move { supervisor.attend(&on).await });
    }
    if let Some(console) = &started.console {
        match console.open(&shard) {
            Ok(door) => others.push((
                "console",
                shard.spawn(async move {
                    let _nothing_is_lost = door.serve().await;
                    Ok(())
                }),
            )),
            Err(error) => {
                shard.drain();
                return Err(error);
            }
        }
    }
    let ending = shard.clone();
    // If one cannot start, the others end with it.
    let or_drain = move |ended: Result<(), String>| {
        if ended.is_err() {
            ending.drain();
        }
        ended
    };
    if let Some(editions) = started.gateway {
        let (on, or_drain) = (shard.clone(), or_drain.clone());
        others.push(("gateway", shard.spawn(async move { or_drain(service::run(on, editions).await) })));
    }
    if let Some(image) = started.image {
        let (on, or_drain) = (shard.clone(), or_drain.clone());
        others.push(("image service", shard.spawn(async move { or_drain(image.run(on).await) })));
    }
    let mut ended = match started.chat {
        Some(chat) => or_drain(serve::run(shard.clone(), chat).await),
        None => Ok(()),
    };
    for (name, other) in others {
        let other = other.await.unwrap_or_else(|_| Err(format!("the {name} ended by a panic")));
        ended = ended.and(other);
    }
    ended
}
