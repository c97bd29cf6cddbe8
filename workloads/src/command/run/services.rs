//! What runs on every shard.

use std::net::SocketAddr;
use std::sync::Arc;

use annulus_engine::Shard;

use crate::chat::node::Node;
use crate::chat::serve;
use crate::console::{Console, Service};
use crate::gateway::reload::Editions;
use crate::gateway::service;
use crate::image::service::Image;
use crate::process::manager::Manager;

/// What runs on every shard.
#[derive(Clone)]
pub(super) struct Started {
    pub(super) chat: Option<Arc<Node>>,
    pub(super) gateway: Option<Arc<Editions>>,
    /// And where it listens.
    pub(super) image: Option<(Arc<Image>, SocketAddr)>,
    pub(super) console: Option<Arc<Console>>,
    /// Who started the process, where that wants to hear of it.
    pub(super) manager: Option<Arc<Manager>>,
}

impl Started {
    /// What the console shows of them.
    async fn named(&self) -> Vec<Service> {
        let mut services = Vec::new();
        if let Some(chat) = &self.chat {
            let about = "rooms, presence and history for Centrifuge clients";
            services.push(Service { name: "chat", about, address: chat.common.config.listen });
        }
        if let Some(editions) = &self.gateway {
            let gateway = editions.newer(&mut 0).await.gateway;
            let about = "one answer out of many services' answers";
            let address = SocketAddr::new(gateway.listen.ip, gateway.listen.port);
            services.push(Service { name: "gateway", about, address });
        }
        if let Some((_, address)) = &self.image {
            let about = "uploads, processing and delivery of images";
            services.push(Service { name: "image", about, address: *address });
        }
        services
    }
}

/// One shard's services. If one cannot start, the whole process ends: half of them is not what was asked for.
pub(super) async fn services(shard: Shard, started: Started) -> Result<(), String> {
    let mut others = Vec::new();
    if let Some(manager) = started.manager.clone() {
        let on = shard.clone();
        let _until_the_end = shard.spawn(async move { manager.attend(&on).await });
    }
    if let Some(console) = &started.console {
        match console.open(&shard, started.named().await) {
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
    if let Some((image, _)) = started.image {
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
