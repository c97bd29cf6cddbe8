//! A configuration in force on one shard: its router, services, upstreams and meters.
//!
//! A reload puts a new one beside the old. Requests under way end with the one they began with; connections take the
//! newest with their next request.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus_engine::Shard;
use annulus_engine::trace::Trace;
use annulus_protocols::http1::{self, RequestHead};
use annulus_protocols::websocket::handshake;

use super::access::{AccessLog, Line};
use super::backend::{Asking, Ready};
use super::bucket::{self, Bucket, Clients};
use super::cache::Cache;
use super::client::{Client, Expected};
use super::compression::Compression;
use super::config::model::{self, ClientKey, Gateway, Rate};
use super::dns::Resolver;
use super::endpoint::{Service, Tunnels};
use super::fanout;
use super::figures::Figures;
use super::grpc;
use super::guard::{self, Claims, Guarded, Guards};
use super::identity::{Context, Identities};
use super::memory::Memory;
use super::message::{FieldList, is_hop_by_hop};
use super::meters::{EndpointMeters, Meters};
use super::own;
use super::part::Changes;
use super::problem;
use super::quota::{Away, Limit, Quota};
use super::request::{REQUEST_BODY_BYTES_MAX, Reply, ReplyBody, Request, Upgrade};
use super::route::{Route, Router, TrailingSlash};
use super::service::Edition;
use super::shadow::Shadow;
use super::shed::Shedder;
use super::targets::Targets;
use super::telemetry::{RequestSpan, Telemetry};
use super::tunnel;
use super::upstream::{Dialer, Settings, Upstreams};
use crate::jose::Fetcher;
use crate::outbound::Outbound;

/// How long idle connections are kept when the gateway is asked to stop: a request that was sent before the client could
/// know of it is still answered.
const LAST_CALL: Duration = Duration::from_millis(500);
/// How long one address of an upstream has for a connection, where the configuration does not say.
const DIAL_MAX: Duration = Duration::from_secs(30);

/// See the module's description.
pub struct Live {
    /// The shard.
    pub shard: Shard,
    /// What the configuration says.
    pub gateway: Arc<Gateway>,
    router: Router,
    services: Vec<Service>,
    /// Whom backends ask.
    pub upstreams: Rc<Upstreams>,
    /// What has happened.
    pub meters: Meters,
    /// A line per request, unless that is switched off.
    pub access: Option<AccessLog>,
    endpoint_meters: Vec<EndpointMeters>,
    limits: Vec<Option<Limits>>,
    quota: Option<Rc<Quota>>,
    identities: Identities,
    /// Where traces and metrics go, if anywhere.
    pub telemetry: Option<Rc<Telemetry>>,
    compression: Option<Compression>,
    guards: Arc<Guards>,
    fetcher: Rc<Fetcher>,
    /// How much is given up.
    pub shedder: Shedder,
    /// What answers take.
    pub memory: Arc<Memory>,
    /// What the dashboard shows.
    pub figures: Arc<Figures>,
    /// Requests under way.
    pub in_flight: Cell<usize>,
    successor: RefCell<Option<Rc<Live>>>,
}

impl Live {
    /// Puts a configuration in force on a shard.
    ///
    /// `before` is the one that it succeeds, whose connection to Redis it may go on with.
    pub fn new(shard: &Shard, edition: &Edition, resolver: &Rc<Resolver>, before: Option<&Live>) -> Rc<Live> {
        let Edition { gateway, memory, figures, access, checks, tunnels, .. } = edition;
        let gateway = gateway.clone();
        let dial_timeout = gateway.pool.dialer_timeout.unwrap_or(DIAL_MAX);
        let dialer = Rc::new(Dialer::new(shard, resolver.clone(), &edition.client_tls, dial_timeout));
        let upstreams = Rc::new(Upstreams::new(shard, dialer, settings_of(&gateway)));
        let mut services = Vec::new();
        let trailing = match gateway.router.disable_redirect_trailing_slash {
            true => TrailingSlash::Strict,
            false => TrailingSlash::Redirected,
        };
        let router = Router::new(&gateway.endpoints, trailing);
        for endpoint in &gateway.endpoints {
            let (mut backends, mut shadows) = (Vec::new(), Vec::new());
            for (place, backend) in endpoint.backends.iter().enumerate() {
                let (of, name) = (name_of(endpoint), backend_name(endpoint, place));
                let ready = Rc::new(Ready::new(
                    shard,
                    (&of, &name),
                    backend.clone(),
                    Targets::new(shard, backend, &upstreams, resolver, checks),
                    backend.cache.as_ref().map(|limits| Cache::new(limits, memory, shard.count())),
                    gateway.pool.response_header_timeout,
                ));
                match backend.shadow {
                    None => backends.push(ready),
                    Some(within) => shadows.push(Shadow::new(shard, (&of, &name), ready, within, memory)),
                }
            }
            services.push(Service {
                expected: Rc::new(Expected::of(endpoint)),
                backends,
                shadows,
                endpoint: model::Endpoint { backends: Vec::new(), ..endpoint.clone() },
                changes: Changes::new(&endpoint.flatmap).map(Arc::new),
                compat: gateway.compat,
                sample: RefCell::default(),
                tunnels: endpoint.websocket.is_some().then(|| Tunnels {
                    places: tunnels.clone(),
                    own: tunnels.of(&name_of(endpoint)),
                    all_max: gateway.tunnels_max,
                    meters: tunnel::Meters::new(shard),
                }),
                tells_errors: gateway.router.return_error_msg,
            });
        }
        let is_global = |endpoint: &model::Endpoint| endpoint.rate_limit_is_global && endpoint.rate_limit.is_some();
        let store = gateway.rate_limit_store.as_ref().filter(|_| gateway.endpoints.iter().any(is_global));
        let quota = store.map(|store| Quota::new(shard, store, before.and_then(|before| before.quota.as_deref())));
        let together = quota.as_ref().zip(store.map(|store| store.gateways));
        let limits = gateway.endpoints.iter().map(|endpoint| Limits::new(shard, endpoint, together)).collect();
        let outbound = Outbound::new(shard, resolver.clone(), &edition.client_tls);
        let meters = Meters::new(shard);
        let endpoint_meters = gateway.endpoints.iter().map(|endpoint| EndpointMeters::new(shard, endpoint)).collect();
        Rc::new(Live {
            shard: shard.clone(),
            access: access.clone().map(|writer| {
                AccessLog::new(writer, meters.unlogged.clone()).written_as(gateway.access_format.clone())
            }),
            meters,
            limits,
            quota,
            identities: Identities::new(shard.index()),
            telemetry: gateway.telemetry.as_ref().map(|settings| Telemetry::start(shard, settings, &outbound)),
            compression: gateway.compression.as_ref().map(|settings| Compression::new(shard, settings)),
            guards: edition.guards.clone(),
            fetcher: Fetcher::new(shard, &outbound, "gateway"),
            shedder: Shedder::default(),
            memory: memory.clone(),
            figures: figures.clone(),
            gateway,
            router,
            services,
            upstreams,
            endpoint_meters,
            in_flight: Cell::new(0),
            successor: RefCell::default(),
        })
    }

    /// What is to be done now and then: key sets that have become old are fetched, answers that are out of date forgotten.
    pub fn tend(&self) {
        let due = self.guards.tokens().filter(|tokens| tokens.is_due(&self.fetcher));
        due.for_each(|tokens| tokens.refresh(&self.fetcher));
        let backends = self.services.iter().flat_map(Service::everybody);
        backends.for_each(|backend| backend.sweep(self.shard.now()));
    }

    /// The configuration that is in force now.
    pub fn newest(self: &Rc<Self>) -> Rc<Live> {
        let mut newest = self.clone();
        loop {
            let next = newest.successor.borrow().clone();
            match next {
                Some(next) => newest = next,
                None => return newest,
            }
        }
    }

    /// Puts another configuration in force.
    pub fn succeed(&self, successor: Rc<Live>) {
        *self.successor.borrow_mut() = Some(successor);
    }

    /// The endpoints' services.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Their meters, in the same order.
    pub fn endpoint_meters(&self) -> &[EndpointMeters] {
        &self.endpoint_meters
    }

    /// Requests that an endpoint's limit for all clients would let through now, and the most that it ever would. Of a limit that
    /// is kept together only Redis knows.
    pub fn limit_left(&self, endpoint: usize) -> Option<(f64, u64)> {
        let (rate, bucket, global) = self.limits[endpoint].as_ref()?.all.as_ref()?;
        global.is_none().then(|| (bucket.left(rate, self.shard.now()), rate.capacity))
    }

    /// How long idle connections are kept at the end.
    pub fn last_call(&self) -> Duration {
        let patience = self.gateway.server.max_shutdown_wait.unwrap_or(Duration::MAX);
        LAST_CALL.min(patience / 2)
    }

    /// The shard's clock, for protocol machines.
    pub fn now_ms(&self) -> u64 {
        self.shard.now().as_millis() as u64
    }

    /// What requests may be.
    pub fn request_limits(&self) -> http1::Limits {
        let server = &self.gateway.server;
        let head_ms_max = server
            .read_header_timeout
            .map_or(http1::Limits::DEFAULT.head_ms_max, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        http1::Limits {
            head_bytes_max: server.max_header_bytes as usize,
            head_ms_max,
            body_bytes_max: REQUEST_BODY_BYTES_MAX,
            ..http1::Limits::DEFAULT
        }
    }

    /// Counts and logs what could not be read as a request.
    pub fn refused(&self, client: IpAddr, status: u16, why: &str) {
        self.meters.refused.add(1);
        self.meters.count_status(status);
        if let Some(access) = &self.access {
            access.add(&Line { status, why: Some(why), ..Line::unread(client) });
        }
    }

    /// Counts and logs a connection that never came to be: the TLS handshake failed. There is no answer and no status.
    pub fn unsecured(&self, client: IpAddr, why: &str) {
        self.meters.refused.add(1);
        if let Some(access) = &self.access {
            access.add(&Line { why: Some(&format!("TLS: {why}")), ..Line::unread(client) });
        }
    }

    /// Counts and logs a connection that was ended because its client did not take its answers.
    pub fn too_slow(&self, client: IpAddr) {
        self.meters.slow.add(1);
        if let Some(access) = &self.access {
            access.add(&Line { why: Some("takes its answers too slowly"), ..Line::unread(client) });
        }
    }

    /// A request out of its head, without its body.
    pub fn request_of_http1(&self, head: &RequestHead<'_>, peer: IpAddr, client: &Rc<Client>) -> Request {
        let mut fields = FieldList::new();
        for field in head.fields() {
            let name = field.name.to_ascii_lowercase();
            if !is_hop_by_hop(&name) && !head.fields().has_token("connection", &name) {
                fields.push(&name, field.value);
            }
        }
        Request {
            method: head.method().to_owned(),
            protocol: if head.version() == http1::Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" },
            path: head.path().to_owned(),
            query: head.query().map(str::to_owned),
            authority: fields.text("host").unwrap_or_default().to_owned(),
            fields,
            body: Vec::new(),
            body_held: client.body_room(),
            peer,
            client: client.clone(),
            began: self.shard.now(),
            trace: Trace::NONE,
            inflow: None,
            upgrade: match handshake::Upgrade::check(head) {
                Ok(_valid) => Upgrade::Asked,
                Err(handshake::Refusal::NotAnUpgrade | handshake::Refusal::Method) => Upgrade::None,
                Err(refusal) => Upgrade::Wrong(refusal),
            },
        }
    }

    /// Answers a request.
    pub async fn answer(self: &Rc<Self>, request: &Request) -> Reply {
        let _counted = InFlight::begin(self);
        let began = self.shard.precise_now();
        let client = self.client_address(request);
        let (own_fields, context) = self.own_fields(request, client);
        let telemetry = self.telemetry.as_deref();
        let span = telemetry.and_then(|telemetry| telemetry.begin(&self.shard, &context, &request.path));
        let origins = self.guards.origins.as_ref();
        let preflight = || origins.and_then(|origins| origins.preflight(request));
        let (index, reply) = match own::answer(self, request).or_else(preflight) {
            Some(reply) => (None, reply),
            None => {
                let (index, mut reply) = self.answer_by_route(request, client, &own_fields, span.as_ref()).await;
                if let Some(origins) = origins {
                    origins.mark(request, &mut reply);
                }
                (index, reply)
            }
        };
        let reply = if request.inflow.is_some() { grpc::told(reply) } else { reply };
        let reply = match &self.compression {
            // Boxed, because most have none.
            Some(compression) => Box::pin(compression.apply(&self.shard, self.shedder.level(), request, reply)).await,
            None => reply,
        };
        let id = own_fields.text("x-request-id").unwrap_or_default();
        // Refusals carry it too: it is what a person who was refused can name. An upstream's own word stays.
        let reply = if reply.fields.get("x-request-id").is_none() { reply.with("x-request-id", id) } else { reply };
        self.meters.count_status(reply.status);
        let spent = self.shard.precise_now().saturating_sub(began);
        if let Some(index) = index {
            self.endpoint_meters[index].count(reply.status, spent);
        }
        if let Some(access) = &self.access {
            self.log(access, request, index, &reply, client, spent, id);
        }
        if let Some(span) = span {
            let route = index.map(|index| self.services[index].endpoint.pattern.clone());
            end(span, request, route, client, id, reply.status);
        }
        reply
    }

    async fn answer_by_route(
        self: &Rc<Self>,
        request: &Request,
        client: IpAddr,
        own_fields: &FieldList,
        span: Option<&RequestSpan<'_>>,
    ) -> (Option<usize>, Reply) {
        if self.guards.bots.as_ref().is_some_and(|bots| bots.refuses(request)) {
            self.meters.denied.add(1);
            return (None, refused_program());
        }
        match self.router.find(&request.method, &request.path) {
            Route::Found(index, params) => {
                (Some(index), self.serve(index, request, &params, client, own_fields, span).await)
            }
            other => (None, self.answer_unrouted(request, other)),
        }
    }

    #[allow(clippy::too_many_arguments)] // A line of them.
    fn log(
        &self,
        access: &AccessLog,
        request: &Request,
        index: Option<usize>,
        reply: &Reply,
        client: IpAddr,
        took: Duration,
        id: &str,
    ) {
        if self.gateway.router.logger_skip_paths.contains(&request.path) {
            return;
        }
        let bytes = match &reply.body {
            ReplyBody::Whole(body) => Some(body.len()),
            ReplyBody::Streamed(_) | ReplyBody::Tunnel(_) => None,
        };
        access.add(&Line {
            client,
            method: &request.method,
            path: &request.path,
            request: Some(request),
            endpoint: index.map(|index| &self.services[index].endpoint.pattern[..]),
            status: reply.status,
            bytes,
            took,
            id,
            why: None,
        });
    }

    fn answer_unrouted(self: &Rc<Self>, request: &Request, route: Route) -> Reply {
        if let Some(reply) = own::metrics(self, request) {
            return reply;
        }
        match route {
            Route::OtherSlash(path) => {
                let location = match &request.query {
                    Some(query) => format!("{path}?{query}"),
                    None => path,
                };
                // 307 keeps the method and the body (RFC 9110 section 15.4.8).
                let status = if matches!(&request.method[..], "GET" | "HEAD") { 301 } else { 307 };
                Reply::empty(status).with("location", &location)
            }
            Route::OtherMethods(_) if self.gateway.router.disable_method_not_allowed => not_found(),
            Route::OtherMethods(methods) => {
                let mut allow: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
                if allow.contains(&"GET") {
                    allow.push("HEAD");
                }
                let allow = allow.join(", ");
                if self.gateway.router.auto_options && request.method == "OPTIONS" {
                    return Reply::empty(200).with("allow", &allow);
                }
                problem::problem(405, "this path has other methods").with("allow", &allow)
            }
            Route::BadParameter => problem::problem(400, "a part of the path is not allowed there"),
            Route::NotFound | Route::Found(..) => not_found(),
        }
    }

    async fn serve(
        &self,
        index: usize,
        request: &Request,
        params: &[String],
        client: IpAddr,
        own_fields: &FieldList,
        span: Option<&RequestSpan<'_>>,
    ) -> Reply {
        let service = &self.services[index];
        let level = self.shedder.level();
        if self.shedder.refuses(service.endpoint.priority) {
            self.meters.shed.add(1);
            let wait = format!("{}", 1 + request.began.subsec_nanos() % 4);
            let reply = problem::problem(503, "the gateway has too much to do").with("retry-after", &wait);
            // A refusal is the quickest of all answers, and a client that prefers the connection which became free last
            // would keep coming back to the shard that refuses. Where others have time, it is sent to them.
            return Reply { last: self.shard.is_any_unstrained(), ..reply };
        }
        let guarded = &self.guards.endpoints[index];
        let entered = self.shard.now();
        let within = service.endpoint.timeout;
        let claims = match self.let_in(guarded, request, within).await {
            Ok(claims) => claims,
            Err(refusal) => {
                self.meters.denied.add(1);
                return refusal;
            }
        };
        let limits = self.limits[index].as_ref();
        let refusal = match limits {
            Some(limits) => limits.refusal(self, request, params, client).await,
            None => None,
        };
        if let Some(refusal) = refusal {
            self.meters.limited.add(1);
            self.endpoint_meters[index].limited.add(1);
            return match request.inflow {
                Some(_) => grpc::told_with(grpc::Status::RESOURCE_EXHAUSTED, &refusal),
                None => refusal,
            };
        }
        if let Err(refusal) = self.fits(guarded, request, within).await {
            self.meters.denied.add(1);
            return refusal;
        }
        // What waits of a call that goes both ways is bounded by its windows, and it may last: it takes nobody's turn.
        let turn = match request.inflow {
            Some(_) => None,
            None => Some(request.client.turn(&service.expected).await),
        };
        // What keys, limits and a client that does not take its answers cost is not the backends' to make up for.
        let began = request.began + self.shard.now().saturating_sub(entered);
        let deadline = fanout::deadline(&service.endpoint, began, service.backends.len());
        let asking = Asking {
            shard: &self.shard,
            endpoint: &service.endpoint,
            request,
            params,
            own_fields,
            span,
            claims: claims.as_ref(),
            deadline,
            level,
            has_required: service.backends.iter().any(|ready| ready.backend.required),
        };
        Reply { turn, ..service.answer(&asking).await }
    }

    /// Whether an endpoint's guards let a request in within so much time, and what its token says. Boxed, because most
    /// endpoints have none.
    async fn let_in(&self, guarded: &Guarded, request: &Request, within: Duration) -> Result<Option<Claims>, Reply> {
        if guarded.bots.as_ref().is_some_and(|bots| bots.refuses(request)) {
            return Err(refused_program());
        }
        // What browsers keep from pages of other origins are answers, and a WebSocket has none to keep.
        if request.upgrade == Upgrade::Asked
            && self.guards.origins.as_ref().is_some_and(|origins| origins.refuses(request))
        {
            return Err(problem::problem(403, "pages of this origin may not open a WebSocket here"));
        }
        let Some(tokens) = &guarded.tokens else { return Ok(None) };
        let admitted = self.shard.timeout(within, Box::pin(tokens.admit(&self.fetcher, request))).await;
        admitted.unwrap_or_else(|_elapsed| Err(guard::busy())).map(Some)
    }

    /// Whether its body fits, looked at within so much time.
    async fn fits(&self, guarded: &Guarded, request: &Request, within: Duration) -> Result<(), Reply> {
        let Some(bodies) = &guarded.bodies else { return Ok(()) };
        let checked = self.shard.timeout(within, Box::pin(bodies.check(&self.shard, &request.body))).await;
        checked.unwrap_or_else(|_elapsed| Err(guard::busy()))
    }

    /// The fields that every backend gets, and the trace that they tell of.
    fn own_fields(&self, request: &Request, client: IpAddr) -> (FieldList, Context) {
        let sampled = self.gateway.telemetry.as_ref().map(|telemetry| telemetry.trace_sample_rate);
        let (mut fields, context) = self.identities.of(request, self.trusts(request.peer), sampled);
        fields.push("x-forwarded-for", client.to_string().as_bytes());
        fields.push("x-forwarded-host", request.authority.as_bytes());
        fields.push("user-agent", USER_AGENT.as_bytes());
        (fields, context)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.gateway.router.trusted_proxies.iter().any(|network| network.contains(address))
    }

    /// Who asks: the peer, or whom trusted proxies name. Read from the right, since the left is the client's own word.
    fn client_address(&self, request: &Request) -> IpAddr {
        let mut client = request.peer;
        if !self.trusts(client) {
            return client;
        }
        for name in &self.gateway.router.remote_ip_headers {
            // A proxy may append to the client's line or add one of its own: several are one list (RFC 9110 section 5.3).
            let values = request.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
            let lists: Vec<&str> = values.map(|(_, value)| std::str::from_utf8(value).unwrap_or_default()).collect();
            if lists.is_empty() {
                continue;
            }
            for address in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
                let Some(address) = address_of(address.trim()) else { return client };
                client = address;
                if !self.trusts(client) {
                    return client;
                }
            }
            return client;
        }
        client
    }
}

/// An address as proxies write it: some add the port.
fn address_of(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// What backends see as the client's program.
pub const USER_AGENT: &str = concat!("annulus/", env!("CARGO_PKG_VERSION"));

/// Ends a request's span.
fn end(span: RequestSpan<'_>, request: &Request, route: Option<String>, client: IpAddr, id: &str, status: u16) {
    let name = match &route {
        Some(route) => format!("{} {route}", request.method),
        // By its own path it would be one of as many as clients can think of.
        None => request.method.clone(),
    };
    let mut texts = vec![
        ("http.request.method", request.method.clone()),
        ("url.path", request.path.clone()),
        ("client.address", client.to_string()),
        ("server.address", request.authority.clone()),
        ("annulus.request.id", id.to_owned()),
    ];
    texts.extend(route.map(|route| ("http.route", route)));
    span.end(name, texts, status);
}

/// An endpoint's name in metrics and on the dashboard.
pub fn name_of(endpoint: &model::Endpoint) -> String {
    format!("{} {}", endpoint.method.as_str(), endpoint.pattern)
}

/// A backend's name in metrics: its pattern, with a number where others before it have the same.
fn backend_name(endpoint: &model::Endpoint, place: usize) -> String {
    let pattern = &endpoint.backends[place].url_pattern.source;
    match endpoint.backends[..place].iter().filter(|other| other.url_pattern.source == *pattern).count() {
        0 => pattern.clone(),
        before => format!("{pattern} ({})", before + 1),
    }
}

/// How often an endpoint may be asked: on this shard, its share of what the configuration says for all; or of all gateways
/// together, and then that share is for the time in which Redis cannot say.
struct Limits {
    all: Option<(Rate, Bucket, Option<Limit>)>,
    client: Option<(ClientKey, Clients, Option<Limit>)>,
}

impl Limits {
    fn new(shard: &Shard, endpoint: &model::Endpoint, together: Option<(&Rc<Quota>, u32)>) -> Option<Limits> {
        let limit = endpoint.rate_limit.as_ref()?;
        let together = together.filter(|_| endpoint.rate_limit_is_global);
        let gateways = together.map_or(1, |(_, gateways)| gateways as usize);
        let global = |rate: &Rate, of: &str| {
            together.map(|(quota, _)| Limit::new(quota, *rate, format!("{}\0{of}", name_of(endpoint))))
        };
        let now = shard.now();
        let all = limit.all.as_ref().map(|rate| {
            let own = bucket::share(rate, shard.count() * gateways);
            (own, Bucket::new(&own, now), global(rate, "all"))
        });
        // A client's connections may be on any shard, or all on one: each shard allows it the whole rate.
        let client = limit.client.as_ref().map(|client| {
            let own = bucket::share(&client.rate, gateways);
            (client.key.clone(), Clients::new(own, now), global(&client.rate, "client"))
        });
        Some(Limits { all, client })
    }

    /// The answer to a request beyond the limits.
    async fn refusal(&self, live: &Live, request: &Request, params: &[String], client: IpAddr) -> Option<Reply> {
        let refuse = |status: u16, detail: &str, wait: Duration| {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            problem::problem(status, detail).with("retry-after", &seconds.max(1).to_string())
        };
        if let Some((key, clients, global)) = &self.client {
            let who = match key {
                ClientKey::Ip => client.to_string(),
                ClientKey::IpFromHeader(name) => {
                    request.fields.text(name).map_or_else(|| client.to_string(), str::to_owned)
                }
                ClientKey::Header(name) => request.fields.text(name).unwrap_or_default().to_owned(),
                ClientKey::Parameter(index) => params.get(*index).cloned().unwrap_or_default(),
            };
            let taken = take(global.as_ref(), &who).await;
            if let Err(wait) = taken.unwrap_or_else(|Away| clients.take(&who, live.shard.now())) {
                return Some(refuse(429, "this client asks too often", wait));
            }
        }
        let (rate, bucket, global) = self.all.as_ref()?;
        let taken = take(global.as_ref(), "").await;
        let taken = taken.unwrap_or_else(|Away| bucket.take(rate, live.shard.now()));
        taken.err().map(|wait| refuse(503, "this endpoint is asked too often", wait))
    }
}

/// Asks the limit that is kept together, if there is one. Boxed, because most requests do not have one and all would be moved
/// with its room.
async fn take(global: Option<&Limit>, who: &str) -> Result<Result<(), Duration>, Away> {
    match global {
        Some(limit) => Box::pin(limit.take(who)).await,
        None => Err(Away),
    }
}

fn refused_program() -> Reply {
    problem::problem(403, "this program may not ask here")
}

fn not_found() -> Reply {
    problem::problem(404, "there is no such endpoint")
}

fn settings_of(gateway: &Gateway) -> Settings {
    let pool = &gateway.pool;
    let defaults = Settings::default();
    Settings {
        idle_max: if pool.disable_keep_alives { 0 } else { pool.max_idle_connections_per_host as usize },
        idle_timeout: pool.idle_connection_timeout.unwrap_or(defaults.idle_timeout),
        ..defaults
    }
}

/// A request under way; counts itself out when it is dropped.
struct InFlight<'a>(&'a Live);

impl<'a> InFlight<'a> {
    fn begin(live: &'a Live) -> InFlight<'a> {
        live.in_flight.set(live.in_flight.get() + 1);
        live.meters.in_flight.add(1);
        InFlight(live)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.meters.in_flight.sub(1);
    }
}
