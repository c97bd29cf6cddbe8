//! Two streams that are connected with each other: what goes in at one end comes out at the other, the end included; and
//! a group can take one of them over.
#![allow(clippy::unwrap_used)] // A test helper that panics fails its test.

use annulus_engine::{Chunk, Close, DriverChoice, Engine, Event, GroupOptions, Reason, Shard};

async fn talk(shard: Shard) {
    let (mut outside, inside) = shard.pair().unwrap();
    let mut group = shard.group::<()>(GroupOptions::default());
    let id = group.adopt(inside, ());
    let outlet = group.outlet();
    let echo = async {
        let mut closed = false;
        while !closed {
            group.ready().await;
            while let Some(event) = group.next_event() {
                match event {
                    Event::Received(id, chunk) => {
                        let _ours_is_small = outlet.send_copy(id, &[&chunk.into_vec()]);
                    }
                    Event::Ended(id) => outlet.close(id, Close::Graceful, Reason::Peer),
                    Event::Closed(closing, _) => closed = closing == id,
                    other => panic!("{other:?}"),
                }
            }
        }
    };
    let speak = async {
        outside.send_copy(&[b"hello"]).await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < 5 {
            heard.extend(outside.recv().await.unwrap().map(Chunk::into_vec).unwrap());
        }
        assert_eq!(heard, b"hello");
        outside.finish().await.unwrap();
        assert!(outside.recv().await.unwrap().is_none(), "the other end is closed, too");
    };
    let speaking = async {
        let mut echo = std::pin::pin!(echo);
        let mut speak = std::pin::pin!(speak);
        let (mut echoed, mut spoke) = (false, false);
        std::future::poll_fn(|cx| {
            spoke = spoke || speak.as_mut().poll(cx).is_ready();
            echoed = echoed || echo.as_mut().poll(cx).is_ready();
            if spoke && echoed { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    };
    shard.timeout(std::time::Duration::from_secs(10), speaking).await.unwrap();
}

#[test]
fn both_drivers_have_pairs() {
    for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
        let running = Engine::builder().shards(1).driver(driver).start(talk).unwrap();
        running.wait().unwrap();
    }
}
