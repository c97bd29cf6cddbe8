//! Every fault by name.

use super::{Fault, chats, fleets, gateways, images};

/// All of them, in the order of the table.
pub const FAULTS: [Fault; 33] = [
    Fault { name: "chat-kill", what: "the chat is killed by SIGKILL at random moments", run: chats::killed },
    Fault { name: "chat-pause", what: "the chat is stopped (SIGSTOP) for three seconds", run: chats::paused },
    Fault { name: "chat-restart", what: "the chat is asked to end (SIGTERM) and started again", run: chats::restarted },
    Fault {
        name: "chat-disk-full",
        what: "the disk of log and database is full for three seconds",
        run: chats::disk_full,
    },
    Fault { name: "chat-descriptors", what: "the chat gets no descriptor for three seconds", run: chats::descriptors },
    Fault { name: "chat-memory", what: "the chat is killed by its limit of memory", run: chats::memory },
    Fault { name: "chat-clock", what: "the chat's clock is stepped by an hour, on and back", run: chats::clock },
    Fault {
        name: "chat-postgres-kill",
        what: "the database is killed for two seconds, twice",
        run: chats::database_killed,
    },
    Fault {
        name: "chat-postgres-slow",
        what: "the way to the database takes 40 ms, loses 2 % and breaks",
        run: chats::database_slow,
    },
    Fault { name: "fleet-kill", what: "one of two nodes or their Redis is killed, at random", run: fleets::killed },
    Fault {
        name: "fleet-pause",
        what: "a node, then Redis, is stopped for five seconds: leases end",
        run: fleets::paused,
    },
    Fault {
        name: "fleet-partition",
        what: "a node is cut off from everybody for six seconds",
        run: fleets::partitioned,
    },
    Fault { name: "fleet-redis-slow", what: "the way to Redis takes 20 ms and loses 1 %", run: fleets::redis_slow },
    Fault {
        name: "fleet-redis-cut",
        what: "connections to Redis break, and then nothing passes for seven seconds",
        run: fleets::redis_cut,
    },
    Fault {
        name: "fleet-rolling",
        what: "nodes are asked to end and started again, one after the other",
        run: fleets::rolling,
    },
    Fault { name: "image-kill", what: "the image service is killed by SIGKILL at random moments", run: images::killed },
    Fault { name: "image-worker-kill", what: "its workers are killed, again and again", run: images::workers_killed },
    Fault { name: "image-disk-full", what: "the disk of everything is full for three seconds", run: images::disk_full },
    Fault {
        name: "image-descriptors",
        what: "more connections than the image service has descriptors",
        run: images::descriptors,
    },
    Fault {
        name: "image-memory",
        what: "the image service and its workers reach a limit of memory",
        run: images::memory,
    },
    Fault {
        name: "image-clock",
        what: "the image service's clock is stepped by an hour, on and back",
        run: images::clock,
    },
    Fault {
        name: "image-fleet-kill",
        what: "a node, Redis or the S3 store is killed, at random",
        run: images::fleet_killed,
    },
    Fault {
        name: "image-fleet-pause",
        what: "a node is stopped for longer than its leases",
        run: images::fleet_paused,
    },
    Fault {
        name: "image-store-slow",
        what: "the way to the S3 store takes 20 ms, loses 1 % and breaks",
        run: images::store_slow,
    },
    Fault {
        name: "image-rolling",
        what: "nodes are asked to end and started again, one after the other",
        run: images::rolling,
    },
    Fault { name: "gateway-kill", what: "the gateway is killed by SIGKILL at random moments", run: gateways::killed },
    Fault {
        name: "gateway-service-kill",
        what: "all services are killed for two seconds",
        run: gateways::services_killed,
    },
    Fault {
        name: "gateway-service-pause",
        what: "all services are stopped for four seconds",
        run: gateways::services_paused,
    },
    Fault {
        name: "gateway-service-slow",
        what: "the way to the services takes 20 ms, loses 1 % and breaks",
        run: gateways::services_slow,
    },
    Fault {
        name: "gateway-descriptors",
        what: "more connections than the gateway has descriptors",
        run: gateways::descriptors,
    },
    Fault {
        name: "gateway-dns",
        what: "the name server takes two seconds, and then says nothing",
        run: gateways::names_slow,
    },
    Fault {
        name: "gateway-certificate",
        what: "a service's certificate expires, and is renewed",
        run: gateways::certificate_expired,
    },
    Fault {
        name: "gateway-rolling",
        what: "two gateways are asked to end and started again, one after the other",
        run: gateways::rolling,
    },
];
