//! The tasks of the shard under test: servers of every kind, and clients of its own.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use annulus_engine::driver::{Address, SocketOptions};
use annulus_engine::{
    Balance, Chunk, Close, ConnId, Event, Frame, Group, GroupOptions, ListenOptions, Listener, OpenOptions, Outlet,
    Reason, Sent, Stream,
};

use super::{Addresses, Lab, pattern};

/// Where the crowd answers datagrams.
pub const DATAGRAMS: ([u8; 4], u16) = ([10, 0, 0, 9], 53);

/// Starts what this schedule has: most of it on the first shard, and on all shards what needs several.
pub fn start(labs: &[Lab]) -> Addresses {
    let lab = &labs[0];
    let shared = share(labs);
    for lab in labs {
        drop(lab.spawn(letters_in(lab.clone())));
        drop(lab.spawn(letters_out(lab.clone())));
    }
    let remote = Address::Ip(([10, 0, 0, 9], 80).into());
    let echoing = listen(lab);
    let echo_group = echoing.as_ref().map(|listener| listener.address().clone());
    let adopted = if echoing.is_some() { listen(lab) } else { None };
    let adopting = adopted.as_ref().map(|listener| listener.address().clone());
    if let Some(listener) = echoing {
        drop(lab.spawn(self::echo_group(lab.clone(), listener, adopted)));
    }
    let echo_stream = listen(lab).map(|listener| start_on(lab, listener, echo_streams));
    let broadcast = listen(lab).map(|listener| start_on(lab, listener, broadcast));
    let upload = listen(lab).map(|listener| start_on(lab, listener, uploads));
    let sleepy = listen(lab).map(|listener| start_on(lab, listener, sleepy_streams));
    for target in [Some(&remote), echo_group.as_ref(), adopting.as_ref(), echo_stream.as_ref()].into_iter().flatten() {
        if lab.hit(400) {
            drop(lab.spawn(client(lab.clone(), target.clone())));
        }
    }
    if lab.hit(300) {
        drop(lab.spawn(files(lab.clone())));
    }
    if lab.hit(300) {
        drop(lab.spawn(datagrams(lab.clone())));
    }
    if lab.hit(300) {
        drop(lab.spawn(clock(lab.clone())));
    }
    if lab.hit(200) {
        drop(lab.spawn(reaper(lab.clone())));
    }
    Addresses { echo_group, adopting, echo_stream, sleepy, broadcast, upload, shared, remote }
}

/// One listening socket whose connections go to all shards.
fn share(labs: &[Lab]) -> Option<Address> {
    let address = Address::Ip(([10, 0, 0, 2], 7000).into());
    let options = ListenOptions { balance: Balance::LeastLoaded, ..ListenOptions::default() };
    for lab in labs {
        let listener = lab.shard.listen(&address, &options).ok()?;
        drop(lab.spawn(echo_group(lab.clone(), listener, None)));
    }
    Some(address)
}

/// Posts numbered letters to every shard.
async fn letters_out(lab: Lab) {
    let from = lab.shard.index();
    while !lab.finishing.get() {
        lab.shard.sleep(lab.millis(10)).await;
        for _ in 0..lab.below(5) {
            let to = lab.below(lab.shard.count());
            let number = lab.letters.borrow()[from][to].0;
            if lab.shard.post(to, "numbers", (from, number)).is_ok() {
                lab.letters.borrow_mut()[from][to].0 += 1;
            }
        }
    }
}

/// They come in the order in which each shard posted them.
async fn letters_in(lab: Lab) {
    let to = lab.shard.index();
    let mut inbox = lab.shard.inbox::<(usize, u64)>("numbers");
    loop {
        let (from, number) = inbox.recv().await;
        let due = lab.letters.borrow()[from][to].1;
        if number != due {
            lab.world.fail(format!("letter {number} from shard {from} came where {due} was due"));
        }
        lab.letters.borrow_mut()[from][to].1 += 1;
    }
}

fn listen(lab: &Lab) -> Option<Listener> {
    let any = Address::Ip(([10, 0, 0, 2], 0).into());
    // It may fail: descriptors are short in some schedules.
    if lab.hit(300) { None } else { lab.shard.listen(&any, &ListenOptions::default()).ok() }
}

fn start_on<F: Future<Output = ()> + 'static>(lab: &Lab, listener: Listener, run: fn(Lab, Listener) -> F) -> Address {
    let address = listener.address().clone();
    drop(lab.spawn(run(lab.clone(), listener)));
    address
}

#[derive(Default)]
struct Session {
    /// What the outbox did not take.
    waiting: VecDeque<Frame>,
    ended: bool,
    paused_until: Option<Duration>,
}

struct EchoGroup {
    lab: Lab,
    group: Group<Session>,
    out: Outlet,
}

async fn echo_group(lab: Lab, listener: Listener, streams: Option<Listener>) {
    let outbox_bytes_max = if lab.hit(500) { 1 + lab.below(500) } else { 1 << 20 };
    let options = GroupOptions { outbox_bytes_max, tick: Some(Duration::from_millis(5)), cohorts: 2 };
    let group = lab.shard.group(options);
    let out = group.outlet();
    let mut echo = EchoGroup { lab, group, out };
    echo.group.listen(listener);
    loop {
        echo.group.ready().await;
        while let Some(event) = echo.group.next_event() {
            echo.on(event);
        }
        if let Some(streams) = &streams
            && let Ok(mut stream) = echo.lab.shard.timeout(Duration::ZERO, streams.accept()).await
        {
            if echo.lab.hit(300) {
                // Received, and not used up: the group gets it.
                if let Ok(Ok(Some(chunk))) = echo.lab.shard.timeout(echo.lab.millis(2), stream.recv()).await {
                    stream.give_back(chunk);
                }
            }
            echo.group.adopt(stream, Session::default());
        }
        if echo.lab.abrupt && echo.lab.hit(2) {
            return;
        }
    }
}

impl EchoGroup {
    fn on(&mut self, event: Event) {
        match event {
            Event::Opened(id) => {
                assert!(self.group.attach(id, Session::default()).is_none(), "a slot had a session before it opened");
            }
            Event::Received(id, chunk) => self.received(id, chunk),
            Event::Ended(id) => {
                self.session(id).ended = true;
                self.close_if_done(id);
            }
            Event::Drained(id) => self.drained(id),
            Event::Closed(id, _) => {
                assert!(self.group.session(id).is_some(), "closed without having been opened");
            }
            Event::Tick(cohort) => self.tick(cohort),
        }
    }

    fn session(&mut self, id: ConnId) -> &mut Session {
        self.group.session(id).expect("events come between Opened and Closed")
    }

    fn received(&mut self, id: ConnId, mut chunk: Chunk) {
        assert!(!chunk.is_empty() && !self.session(id).ended, "nothing, or something behind the end");
        let lab = self.lab.clone();
        if lab.abrupt && lab.hit(20) {
            return self.out.close(id, Close::Now, Reason::Local);
        }
        if chunk.len() > 1 && lab.hit(100) {
            let rest = chunk[1..].to_vec();
            chunk = Chunk::Owned(chunk[..1].to_vec());
            self.out.give_back(id, Chunk::Owned(rest));
        }
        let frame = if lab.hit(500) { chunk.into_frame() } else { lab.shard.frame(&[&chunk]) };
        self.session(id).waiting.push_back(frame);
        self.drained(id);
        if lab.hit(50) {
            self.session(id).paused_until = Some(lab.shard.now() + lab.millis(10));
            self.out.pause(id);
        }
    }

    /// Sends what waits; what does not fit pauses the peer until the outbox is empty.
    fn drained(&mut self, id: ConnId) {
        while let Some(frame) = self.session(id).waiting.pop_front() {
            match self.out.send(id, &frame) {
                Sent::Queued => {}
                Sent::Gone => return,
                Sent::Full => {
                    self.session(id).waiting.push_front(frame);
                    self.out.pause(id);
                    return self.out.tell_drained(id);
                }
            }
        }
        if self.session(id).paused_until.is_none() {
            self.out.resume(id);
        }
        self.close_if_done(id);
    }

    fn close_if_done(&mut self, id: ConnId) {
        let session = self.session(id);
        if session.ended && session.waiting.is_empty() {
            self.out.close(id, Close::Graceful, Reason::Peer);
        }
    }

    fn tick(&mut self, cohort: u32) {
        let mut ids = Vec::new();
        self.out.cohort(cohort, &mut ids);
        let now = self.lab.shard.now();
        for id in ids {
            let Some(session) = self.group.session(id) else { continue };
            if session.paused_until.is_some_and(|until| until <= now) {
                session.paused_until = None;
                if session.waiting.is_empty() {
                    self.out.resume(id);
                }
            }
        }
    }
}

/// Numbers in a row to everyone, one per chunk that anybody sends.
async fn broadcast(lab: Lab, listener: Listener) {
    let mut group = lab.shard.group::<()>(GroupOptions::default());
    let out = group.outlet();
    group.listen(listener);
    let mut number = 0u64;
    let (mut ids, mut full) = (Vec::new(), Vec::new());
    loop {
        group.ready().await;
        while let Some(event) = group.next_event() {
            match event {
                Event::Opened(id) => assert!(group.attach(id, ()).is_none()),
                Event::Received(..) => {
                    let frame = lab.shard.frame(&[&number.to_le_bytes()]);
                    number += 1;
                    ids.clear();
                    out.all(&mut ids);
                    out.send_all(&ids, &frame, &mut full);
                    full.drain(..).for_each(|id| out.close(id, Close::Now, Reason::Slow));
                }
                Event::Ended(id) => out.close(id, Close::Graceful, Reason::Peer),
                Event::Closed(..) | Event::Drained(_) | Event::Tick(_) => {}
            }
        }
    }
}

async fn echo_streams(lab: Lab, listener: Listener) {
    loop {
        let stream = match lab.hit(300) {
            // Dropping the accepting future must not lose a connection.
            true => match lab.shard.timeout(lab.millis(3), listener.accept()).await {
                Ok(stream) => stream,
                Err(_) => continue,
            },
            false => listener.accept().await,
        };
        let task = lab.spawn(echo_stream(lab.clone(), stream));
        if lab.abrupt && lab.hit(50) {
            task.abort();
        }
    }
}

async fn echo_stream(lab: Lab, mut stream: Stream) {
    // Why it ended is the peer's affair; that bytes are right is checked there too.
    let _ended = echo_stream_until(&lab, &mut stream).await;
    if lab.abrupt && lab.hit(100) {
        stream.abort();
    }
}

async fn echo_stream_until(lab: &Lab, stream: &mut Stream) -> io::Result<()> {
    loop {
        let received = match lab.hit(300) {
            true => match lab.shard.timeout(lab.millis(3), stream.recv()).await {
                Ok(received) => received,
                Err(_) => continue,
            },
            false => stream.recv().await,
        };
        let Some(mut chunk) = received? else { return stream.finish().await };
        assert!(!chunk.is_empty());
        if chunk.len() > 1 && lab.hit(100) {
            let rest = chunk[1..].to_vec();
            chunk = Chunk::Owned(chunk[..1].to_vec());
            stream.give_back(Chunk::Owned(rest));
        }
        let frame = if lab.hit(500) { chunk.into_frame() } else { lab.shard.frame(&[&chunk]) };
        match lab.hit(200) {
            // Dropped or not, the bytes are queued from the first poll on.
            true => match lab.shard.timeout(lab.millis(1), stream.send(&frame)).await {
                Ok(sent) => sent?,
                Err(_) => stream.flush().await?,
            },
            false => stream.send(&frame).await?,
        }
    }
}

/// Echoes too, but only once everybody else is through: whatever it does not read must not hold the others up.
async fn sleepy_streams(lab: Lab, listener: Listener) {
    loop {
        let mut stream = listener.accept().await;
        let of = lab.clone();
        lab.sleepers.set(lab.sleepers.get() + 1);
        drop(lab.spawn(async move {
            while !of.finishing.get() || of.connections() > of.sleepers.get() {
                of.shard.sleep(Duration::from_millis(10)).await;
            }
            of.sleepers.set(usize::MAX / 2);
            let _ended = echo_stream_until(&of, &mut stream).await;
        }));
    }
}

/// Bodies of announced length, each answered by its length.
async fn uploads(lab: Lab, listener: Listener) {
    loop {
        let stream = listener.accept().await;
        let serve = async |lab: &Lab, mut stream: Stream| -> io::Result<()> {
            for number in 0.. {
                let head = stream.recv_exact(Vec::new(), 4).await?;
                let len = u32::from_le_bytes(head[..].try_into().expect("four bytes were asked for")) as usize;
                let body = stream.recv_exact(Vec::new(), len);
                let body = match lab.abrupt && lab.hit(100) {
                    true => match lab.shard.timeout(lab.millis(3), body).await {
                        Ok(body) => body?,
                        Err(_) => return give_up(lab, stream).await,
                    },
                    false => body.await?,
                };
                if !body.iter().copied().eq(pattern(number, len as u64).take(len)) {
                    lab.world.fail(format!("upload {number} of {len} bytes is not what was sent"));
                }
                stream.send_copy(&[&(len as u32).to_le_bytes()]).await?;
            }
            Ok(())
        };
        let of = lab.clone();
        drop(lab.spawn(async move {
            // The stream ends, or breaks, where the peer wants it to.
            let _ended = serve(&of, stream).await;
        }));
    }
}

/// After a direct receive whose future was dropped: the stream is of no use, but must take no harm.
async fn give_up(lab: &Lab, mut stream: Stream) -> io::Result<()> {
    match lab.below(3) {
        0 => {}
        1 => drop(stream.recv_exact(Vec::new(), 20_000).await?),
        _ => while stream.recv().await?.is_some() {},
    }
    Ok(())
}

/// Connects, sends, and checks the echo.
async fn client(lab: Lab, target: Address) {
    for round in 0..1 + lab.below(3) {
        if lab.finishing.get() {
            return;
        }
        lab.shard.sleep(lab.millis(10)).await;
        let exchanged = exchange(&lab, &target, round as u64).await;
        lab.world.note("client done", [round as i64, exchanged.is_ok() as i64, 0]);
    }
}

async fn exchange(lab: &Lab, target: &Address, key: u64) -> io::Result<()> {
    let options = SocketOptions::default();
    let connect = lab.shard.connect(target, &options);
    let mut stream = match lab.hit(300) {
        true => match lab.shard.timeout(lab.millis(3), connect).await {
            Ok(connected) => connected?,
            Err(elapsed) => return Err(io::Error::other(elapsed.to_string())),
        },
        false => connect.await?,
    };
    let len = if lab.hit(100) { lab.below(100_000) } else { lab.below(2_000) };
    let (mut sent, mut came) = (0, 0);
    while came < len {
        let part = lab.below(len - sent + 1).min(20_000);
        if part > 0 {
            let bytes: Vec<u8> = pattern(key, sent as u64).take(part).collect();
            stream.send(&Frame::owned(bytes)).await?;
            sent += part;
        }
        if came == sent {
            continue;
        }
        let Some(chunk) = stream.recv().await? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        if !pattern(key, came as u64).take(chunk.len()).eq(chunk.iter().copied()) {
            lab.world.fail(format!("a client's echo differs within {} bytes from {came}", chunk.len()));
        }
        came += chunk.len();
    }
    stream.finish().await?;
    match stream.recv().await? {
        Some(_) => lab.world.fail("more came back than was sent"),
        None => lab.world.note("client complete", [len as i64, 0, 0]),
    }
    Ok(())
}

/// Writes, syncs, reads back. Futures are dropped now and then, with their operations in flight.
async fn files(lab: Lab) {
    // Errors are the faults' doing; wrong bytes are not.
    let _ended = use_files(&lab).await;
}

async fn use_files(lab: &Lab) -> io::Result<()> {
    let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    let file = lab.shard.open("/part", options).await?;
    let len = 1 + lab.below(3_000);
    let bytes: Vec<u8> = pattern(9, 0).take(len).collect();
    file.write_at(Frame::owned(bytes.clone()), 0).await?;
    if lab.hit(300) {
        let again = file.write_at(Frame::owned(bytes.clone()), 0);
        let _dropped = lab.shard.timeout(Duration::ZERO, again).await;
    }
    file.sync_data().await?;
    let read = file.read_at(Vec::new(), len + 10, 0).await?;
    if read != bytes {
        lab.world.fail("a file reads back differently");
    }
    drop(file);
    let root = lab.shard.open_directory("/").await?;
    if root.open("part", OpenOptions::default()).await?.meta()?.len != len as u64 {
        lab.world.fail("a file has another length than what was written");
    }
    if lab.hit(300) {
        let again = root.open("part", OpenOptions::default());
        let _dropped = lab.shard.timeout(Duration::ZERO, again).await;
    }
    drop(root);
    match lab.shard.link("/part", "/linked").await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked?,
    }
    lab.shard.remove("/linked").await?;
    lab.shard.rename("/part", "/whole").await?;
    lab.shard.sync_directory("/").await?;
    if lab.world.file("/whole").as_deref() != Some(&bytes[..]) {
        lab.world.fail("a renamed file is not there");
    }
    Ok(())
}

/// Asks the crowd, which answers with the same bytes; some are lost or come twice.
async fn datagrams(lab: Lab) {
    let local = SocketAddr::from(([10, 0, 0, 2], 0));
    let Ok(mut socket) = lab.shard.bind_datagrams(local) else { return };
    for number in 0..1 + lab.below(10) as u64 {
        let text: Vec<u8> = pattern(number, 0).take(1 + lab.below(200)).collect();
        if socket.send_to(&text, DATAGRAMS.into()).await.is_err() {
            return;
        }
        let Ok(received) = lab.shard.timeout(lab.millis(5), socket.recv_from(1000)).await else { continue };
        let Ok((answer, from)) = received else { return };
        if from != SocketAddr::from(DATAGRAMS)
            || !(0..=number).any(|key| pattern(key, 0).take(answer.len()).eq(answer.iter().copied()))
        {
            lab.world.fail("a datagram is not what was sent");
        }
    }
}

/// Timers never fire early.
async fn clock(lab: Lab) {
    let mut ticks = lab.shard.interval(Duration::from_millis(7));
    while !lab.finishing.get() {
        let until = lab.shard.now() + lab.millis(30);
        if lab.hit(300) {
            ticks.tick().await;
            continue;
        }
        lab.shard.sleep_until(until).await;
        if lab.shard.now() < until {
            lab.world.fail("a timer was early");
        }
    }
}

/// Starts tasks and aborts them at some moment.
async fn reaper(lab: Lab) {
    while !lab.finishing.get() {
        let sleeper = lab.shard.sleep(lab.millis(20));
        let task = lab.spawn(sleeper);
        lab.shard.sleep(lab.millis(20)).await;
        task.abort();
        let aborted = task.await;
        lab.world.note("aborted", [aborted.is_err() as i64, 0, 0]);
    }
}
