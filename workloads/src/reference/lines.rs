//! What only a person can say of each key: what it means, and a default that is a rule and not a value.

use super::{Line, line};

/// A section of our file.
pub struct Section {
    /// Its heading in the document.
    pub title: &'static str,
    /// Its heading in a file.
    pub head: &'static str,
    /// Keys without which it cannot be read.
    pub needs: &'static str,
    /// Its keys.
    pub lines: &'static [Line],
}

/// A place in a file of the gateway's.
pub struct Place {
    /// Its heading in the document.
    pub title: &'static str,
    /// `root`, `endpoint` or `backend`.
    pub level: &'static str,
    /// The object in our namespace; empty: the namespace itself.
    pub within: &'static str,
    /// Members without which it cannot be read.
    pub needs: &'static str,
    /// Its keys.
    pub lines: &'static [Line],
}

/// Our file's sections, but the chat's.
pub const SECTIONS: &[Section] = &[
    Section { title: "[engine]", head: "[engine]", needs: "", lines: ENGINE },
    Section { title: "[console]", head: "[console]", needs: "", lines: CONSOLE },
    Section { title: "[image]", head: "[image]", needs: "", lines: IMAGE },
    Section { title: "[image.quotas.NAME]", head: "[image.quotas.a]", needs: "", lines: QUOTAS },
    Section { title: "[image.tus]", head: "[image.tus]", needs: "", lines: TUS },
    Section { title: "[image.variants]", head: "[image.variants]", needs: "", lines: VARIANTS },
    Section { title: "[image.gpu]", head: "[image.gpu]", needs: "", lines: GPU },
    Section { title: "[image.webhooks]", head: "[image.webhooks]", needs: HOOK, lines: WEBHOOKS },
    Section { title: "[image.s3]", head: "[image.s3]", needs: "bucket = \"b\"\n", lines: S3 },
];

/// What webhooks cannot be without.
const HOOK: &str = "url = \"https://h/\"\nkeys = [\"0123456789abcdef0123456789abcdef\"]\n";

const ENGINE: &[Line] = &[
    line("shards", "one for each core that is granted", "executors, each a thread of its own; also `--shards N`"),
    line("pin", "[]", "the cores that they are kept on, in turn; empty: those that are granted. Also `--pin 0,1`"),
    line(
        "driver",
        "\"auto\"",
        "what the kernel is asked by: `auto` is io_uring, or epoll where that is not granted, which is said",
    ),
    line(
        "handover",
        "none",
        "a socket by which the next release takes over, see [operating.md](operating.md); also `--handover PATH`",
    ),
    line("user", "who starts it", "whom a server that root starts becomes once its ports are open; also `--user NAME`"),
    line(
        "walls",
        "\"auto\"",
        "landlock and seccomp around the server: `required` refuses to start without both; also `--walls NAME`",
    ),
];

const CONSOLE: &[Line] = &[
    line("listen", "127.0.0.1:9900 with `annulus run`, else none", "where the console is; also `--console ADDRESS`"),
    line("others", "none", "other processes' consoles, 16 at most: their services are shown, too"),
    line(
        "token",
        "none",
        "opens `/debug/`, by `Authorization: Bearer TOKEN` or `?token=TOKEN`: at least 16 bytes. Without one, `/debug/` is there on loopback addresses only",
    ),
    line(
        "sample_hz",
        "97",
        "how often each thread's stack is looked at, per second of its processor time, for a second out of twenty; 0: never",
    ),
    line("sample_minutes", "10", "how long that is kept"),
];

const IMAGE: &[Line] = &[
    line("listen", "\"127.0.0.1:8070\"", "beyond this machine only with keys, or `insecure = true`; also `--listen`"),
    line("data_dir", "\"annulus-data\"", "originals, outputs, queue; one process at a time. Also `--data DIR`"),
    line("s3", "none", "the bucket of originals and outputs, instead of the directory; see [fleet.md](fleet.md)"),
    line("redis", "none", "`redis://...`: the queue of a fleet, instead of the directory's; see [fleet.md](fleet.md)"),
    line("redis_prefix", "\"annulus\"", "what its keys begin with"),
    line(
        "tenants",
        "none",
        "NAME = \"KEY\": API keys of at least 16 characters. Without any, everybody on this machine is one tenant",
    ),
    line("quotas", "none", "what a key may take, see [image.md](image.md#quotas)"),
    line("admin_key", "none", "sees `/console` and all dead letters; at least 16 characters"),
    line("insecure", "false", "anybody who can reach it needs no key"),
    line("origins", "none", "sites whose pages may call the API; needs keys"),
    line("tus", "as below", "uploads that go on where they broke off, see [image.md](image.md#resumable-uploads)"),
    line("presets", "built-in ones", "NAME = [\"OUTPUT=OPTIONS\", ...]: beside the built-in ones, or in their place"),
    line("default_preset", "\"web\"", "what is made where nothing is asked"),
    line("watermarks", "none", "NAME = \"FILE\": what `wm` lays over outputs, see [image.md](image.md#watermarks)"),
    line("variants", "none", "what is made when it is asked for, see [image.md](image.md#variants)"),
    line("gpu", "as below", "whether and how a GPU is used, see [image.md](image.md#the-gpu)"),
    line("bytes_max", "67108864", "bytes of an upload (64 MiB): 413"),
    line("pixels_max", "256000000", "pixels of a frame: 413"),
    line("progressive_pixels_max", "100000000", "pixels of a progressive JPEG, whose decoder holds all of it: 413"),
    line("side_max", "32767", "pixels of a side: 413"),
    line(
        "frames_max",
        "1024",
        "frames of an animation whose head says how many it has (APNG): 413. Of others only as many are read as `maf` asks for",
    ),
    line("scans_max", "100", "scans of a progressive JPEG: 413"),
    line("icc_bytes_max", "4194304", "bytes of a colour profile: 413"),
    line("metadata_bytes_max", "8388608", "bytes of other metadata: 413"),
    line("pixels_per_byte_max", "2000", "more is a decompression bomb: 413"),
    line(
        "workers",
        "by the rule: `annulus image --plan`",
        "threads of the CPU lane; where they share cores with shards, they run when nothing else does",
    ),
    line("cores_per_worker", "1", "a term of the rule"),
    line(
        "memory_bytes_max",
        "what the rule leaves",
        "predicted peaks of all works at once; the next one waits, and one that needs more is 413",
    ),
    line("reserved_bytes", "an eighth, 512 MB at least", "a term of the rule: memory that is not for images"),
    line("giant_bytes", "a quarter of `memory_bytes_max`", "works that need more run one at a time"),
    line("isolation", "\"process\"", "codecs in sandboxed processes; `thread`: inside the server"),
    line("sandbox_required", "false", "whether a kernel without a wall of the sandbox is no place to start"),
    line("job_seconds_max", "30", "beside 20 times the prediction: stopped, 504 in the job's document"),
    line("attempts_max", "5", "then the work is dead"),
    line("lease_seconds", "30", "a worker that is silent for so long has lost its work"),
    line("backoff_seconds", "1", "between attempts, doubling, at random up to that"),
    line("backoff_seconds_max", "300", "the longest of them"),
    line("bulk_share", "5", "one lease in so many prefers bulk"),
    line("jobs_kept_seconds", "604800", "then documents of jobs are forgotten (7 days)"),
    line("dead_kept_seconds", "2592000", "then documents of dead ones are forgotten (30 days)"),
    line("outputs_kept_seconds", "for good", "how long outputs stay after no job refers to them"),
    line("originals_kept", "true", "`false`: originals go with their work"),
    line(
        "originals_kept_seconds",
        "as long as outputs",
        "after the newest work that was made of them ended; nothing new is made of them then, variants neither",
    ),
    line("delayed_after_seconds", "10", "a predicted wait beyond it: 202 with `delayed`"),
    line("refused_after_seconds", "120", "a predicted wait beyond it: 429"),
    line("waiting_max", "100000", "works that wait: 429"),
    line("disk_reserve_bytes", "1073741824", "kept free (1 GiB): 503"),
    line("wait_seconds_max", "60", "of `Prefer: wait`; more is cut to it"),
    line("orphan_seconds", "86400", "leftovers and objects that nothing refers to are removed once they are so old"),
    line("sweep_seconds", "3600", "how often they are looked for"),
    line(
        "audit_postgres",
        "none",
        "`postgres://user:password@host/database`: an account of all jobs is kept there, see [fleet.md](fleet.md#postgresql)",
    ),
    line("webhooks", "none", "who is told how jobs ended, see [image.md](image.md#webhooks)"),
    line("drain_seconds", "30, and 20 for works", "how long requests and works are waited for at the end"),
    line("idle_seconds_max", "60", "of a connection between requests: closed"),
    line("body_pause_seconds_max", "30", "of a body: 408"),
    line("body_bytes_per_second_min", "512", "on average, after a minute: 408"),
    line("connections_max", "10000", "per shard: closed as they come"),
    line("tls_certificate", "none", "a PEM file; both or none"),
    line("tls_key", "none", "likewise"),
];

const QUOTAS: &[Line] = &[
    line(
        "requests_per_second",
        "any number",
        "requests with its key, as many at once after a quiet second; beyond: 429. NAME `\"*\"`: everybody who has none of their own",
    ),
    line("jobs_per_minute", "any number", "uploads that begin; beyond: 429"),
    line("jobs_waiting_max", "any number", "jobs that have not ended; beyond: 429"),
    line(
        "bytes_per_day",
        "any number",
        "of originals, by days of UTC; beyond: 429, or 403 where one image alone is more",
    ),
];

const TUS: &[Line] = &[
    line("enabled", "true, false with `redis`", "whether they are taken"),
    line("uploads_max", "1000", "uploads that may be unfinished: 503"),
    line(
        "bytes_max",
        "16 GiB, or one upload if that may have more",
        "bytes that they may have together when they are finished: 503",
    ),
    line(
        "life_seconds",
        "86400",
        "from the creation (`Upload-Expires`); then it is deleted, finished or not. The job stays",
    ),
];

const VARIANTS: &[Line] = &[
    line(
        "keys",
        "`ANNULUS_VARIANT_KEYS`",
        "texts of at least 32 characters, the one that signs first; in the variable, with commas between",
    ),
    line("unsigned", "false", "addresses need no signature: whoever knows `source.key` may make whatever they like"),
    line(
        "bytes_max",
        "4294967296",
        "of all variants that are kept (4 GiB); the oldest go, and a million of them are kept at most",
    ),
    line("kept_seconds", "2592000", "after it was made a variant goes, with the next sweep (30 days)"),
    line("waiting_max", "256", "variants that may wait to be made: 503"),
    line("wait_seconds_max", "30", "how long a request waits for its own: 503"),
    line("max_age_seconds", "31536000", "of `Cache-Control` (a year)"),
    line("auto_formats", "[\"avif\", \"webp\"]", "what `f:auto` chooses among, of formats that the client names"),
];

const GPU: &[Line] = &[
    line(
        "mode",
        "\"auto\"",
        "a GPU that is there is used; `off`: never; `required`: the service does not start without one",
    ),
    line(
        "lane",
        "\"auto\"",
        "who makes outputs that ask for no lane: the one that will have them sooner, `cpu`, or `gpu` wherever it can",
    ),
    line("device", "0", "the GPU, as the driver counts them (after `CUDA_VISIBLE_DEVICES`)"),
    line("nvjpeg", "by name", "the path of `libnvjpeg.so.13` or `.12`"),
    line("desks", "2", "batches at a time"),
    line("batch_max", "14", "images of one"),
    line("batch_wait_milliseconds", "4", "how long an image waits for others"),
    line("batch_seconds_max", "10", "a batch that takes longer is ended: the worker hangs"),
    line("start_seconds_max", "30", "a worker's start that takes longer is ended"),
    line(
        "arena_bytes",
        "2147483648",
        "of the device's memory for the pictures of one desk (2 GiB); less where there is not so much",
    ),
];

const WEBHOOKS: &[Line] = &[
    line("url", "needed", "where ends of jobs are told"),
    line("keys", "needed", "texts of at least 32 bytes, up to 4: requests are signed with each"),
    line("events", "[\"done\", \"failed\", \"dead\"]", "which ends are told"),
    line("timeout_seconds", "5", "until an answer is there: told again"),
    line("attempts_max", "20", "then it is a dead letter"),
    line(
        "allow_private",
        "false",
        "whether `url` may be at an address that is not of the public network; or a list of networks in which it may be",
    ),
];

const S3: &[Line] = &[
    line("bucket", "needed", "the bucket"),
    line("endpoint", "Amazon's, of the region", "`http://` or `https://`"),
    line("public_endpoint", "the endpoint", "how clients reach the store, for presigned addresses"),
    line("region", "`AWS_REGION`, `AWS_DEFAULT_REGION`, `us-east-1`", "what signatures name"),
    line("style", "`path` with an endpoint, else `virtual-host`", "how addresses name the bucket"),
    line("prefix", "none", "what all keys begin with"),
    line("access_key", "`AWS_ACCESS_KEY_ID`", "whose requests they are"),
    line("secret_key", "`AWS_SECRET_ACCESS_KEY`", "never shown"),
    line("session_token", "`AWS_SESSION_TOKEN`", "of a temporary key; never shown"),
    line("ca_certificate", "the system's authorities", "a PEM file that is trusted beside them"),
    line("part_bytes", "8388608", "larger objects go in parts (8 MiB); each upload holds up to so much memory"),
    line(
        "uploads_max",
        "128",
        "uploads that a shard holds at a time; others wait ten seconds for their turn, then 503",
    ),
    line("answer_seconds_max", "30", "for an answer to begin; then the call is made again"),
    line("presigned_seconds", "900", "how long presigned addresses hold"),
];

/// Our namespace of the gateway's file.
pub const GATEWAY: &[Place] = &[
    Place { title: "annulus at the root", level: "root", within: "", needs: "", lines: ROOT },
    Place { title: "compression", level: "root", within: "compression", needs: "", lines: COMPRESSION },
    Place { title: "rate_limit", level: "root", within: "rate_limit", needs: "\"redis\": \"redis://h\"", lines: STORE },
    Place { title: "annulus at an endpoint", level: "endpoint", within: "", needs: "", lines: ENDPOINT },
    Place { title: "annulus at a backend", level: "backend", within: "", needs: "", lines: BACKEND },
    Place { title: "retry", level: "backend", within: "retry", needs: "", lines: RETRY },
    Place { title: "hedge", level: "backend", within: "hedge", needs: "\"after\": \"p95\"", lines: HEDGE },
    Place { title: "outlier", level: "backend", within: "outlier", needs: "", lines: OUTLIER },
    Place { title: "health", level: "backend", within: "health", needs: "\"path\": \"/\"", lines: HEALTH },
];

const ROOT: &[Line] = &[
    line("compat", "", "whose ways where the two differ; `annulus check` lists what the other value would change"),
    line(
        "memory_bytes_max",
        "half of the memory that is granted",
        "the budget for answers under way; from 80 % of it requests are shed",
    ),
    line("access_log", "", "or `{\"format\": \"$client $status\"}`, see [gateway.md](gateway.md#the-access-log)"),
    line("tunnels_max", "", "WebSockets that are open at once, on all shards; beyond: 503"),
    line("name_servers", "`/etc/resolv.conf`", "three at most"),
    line("compression", "none", "answers are compressed for clients that take them so"),
    line(
        "rate_limit",
        "each gateway counts for itself",
        "a Redis in which limits of endpoints are those of all gateways together",
    ),
    line("merge_order", "as `compat` has it", "whose member wins where two answers have it"),
    line("output", "as `compat` has it", "sorted as KrakenD's, or spans of the backends' texts"),
];

const COMPRESSION: &[Line] = &[
    line("encodings", "", "which are offered, the preferred one first"),
    line("min_bytes", "", "shorter answers are sent as they are"),
];

const STORE: &[Line] = &[
    line("redis", "needed", "where the counts are"),
    line("prefix", "", "what their keys begin with"),
    line("timeout", "", "then the gateway counts for itself, with its part of the limit"),
    line("gateways", "", "how many there are: what one may let through alone is that part of a limit"),
];

const ENDPOINT: &[Line] = &[
    line(
        "priority",
        "`\"normal\"`",
        "who is refused first when there is too much: `sheddable`, then all but `critical`",
    ),
    line("rate_limit", "`global` where the root has a Redis", "`local`: this limit is each gateway's own"),
    line("tunnels_max", "the root's number", "WebSockets of this endpoint that are open at once; beyond: 503"),
    line("merge_order", "as at the root", "whose member wins where two answers have it"),
    line("output", "as at the root", "sorted as KrakenD's, or spans of the backends' texts"),
];

const BACKEND: &[Line] = &[
    line("timeout", "the endpoint's", "its own, within the endpoint's"),
    line("optional", "`true`", "the other way to say `required`"),
    line("required", "", "its failure is the request's: 502 or 504"),
    line("retry", "none", "asked again where it failed"),
    line("outlier", "none", "hosts that fail are left alone for a while"),
    line("lb", "", "which host is asked"),
    line("protocol", "", "`auto`: HTTP/2 where TLS agrees on it, else HTTP/1.1; `h2c`: HTTP/2 without TLS"),
    line("max_response_bytes", "16 MiB", "of an answer, unpacked; beyond: it failed"),
    line("hedge", "none", "asked a second time when the first is slow"),
    line("health", "none", "hosts are asked whether they are well"),
];

const RETRY: &[Line] = &[
    line("attempts", "", "in all, the first one included"),
    line(
        "on",
        "",
        "after what: `connect`, `refused`, `reset`, `timeout`, `5xx`, or a status from 400 to 599. What may have been carried out is repeated only if its method is idempotent",
    ),
    line("budget", "", "of all requests to it, the share that may be repeats"),
];

const HEDGE: &[Line] = &[
    line(
        "after",
        "needed",
        "how long the first may take: a time, or a percentile of what it took lately, from `p50` to `p99.9`",
    ),
    line("budget", "", "of all requests to it, the share that may be asked twice"),
];

const OUTLIER: &[Line] = &[
    line("consecutive_errors", "", "after which a host is left alone"),
    line("ejection_time", "", "for how long, the first time; longer each time"),
    line("ejection_time_max", "", "the longest"),
    line("ejected_max", "", "of its hosts, the share that may be left alone"),
];

const HEALTH: &[Line] = &[
    line("path", "needed", "what is asked for; 2xx is well"),
    line("interval", "", "how often, at least `100ms`"),
    line("timeout", "", "how long an answer may take, the interval at most"),
    line("unhealthy_after", "", "bad answers in a row after which a host is left alone"),
    line("healthy_after", "", "good ones after which it is asked again"),
    line("panic_below", "", "when less than this share of the hosts is well, all are asked"),
];
