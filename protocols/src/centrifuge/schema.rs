//! The messages of the protocol: every field that we read or write, with its name in JSON and its number in Protobuf.
//!
//! This is the only place where the two codecs' words stand. Reading ([`command`](super::command)) and writing
//! ([`reply`](super::reply)) speak of fields, so that nothing can be in one codec and not in the other. Names and numbers
//! are those of `client.proto`; fields that are not here are skipped when they come.

/// A field of one message.
pub(super) trait Field: Copy {
    /// The field of that name in JSON.
    fn named(name: &str) -> Option<Self>;
    /// The field of that number in Protobuf.
    fn numbered(number: u32) -> Option<Self>;
    /// What opens it in JSON: `"name":`.
    fn key(self) -> &'static str;
    /// Its number in Protobuf.
    fn number(self) -> u32;
}

macro_rules! messages {
    ($($message:ident { $($field:ident $name:literal = $number:literal),* })*) => {$(
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum $message { $($field = $number),* }

        impl Field for $message {
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$field),)*
                    _ => None,
                }
            }

            fn numbered(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$field),)*
                    _ => None,
                }
            }

            #[inline]
            fn key(self) -> &'static str {
                match self {
                    $(Self::$field => concat!("\"", $name, "\":"),)*
                }
            }

            #[inline]
            fn number(self) -> u32 {
                match self {
                    $(Self::$field => $number,)*
                }
            }
        }
    )*};
}

// What a map is a list of in Protobuf. In JSON it is an object, and these names do not occur.
messages! {
    MapEntry { Key "key" = 1, Value "value" = 2 }
}

// What clients send. The methods of a command in the order of their numbers are the order in which the first counts.
messages! {
    Command {
        Id "id" = 1, Connect "connect" = 4, Subscribe "subscribe" = 5, Unsubscribe "unsubscribe" = 6,
        Publish "publish" = 7, Presence "presence" = 8, PresenceStats "presence_stats" = 9, History "history" = 10,
        Ping "ping" = 11, Send "send" = 12, Rpc "rpc" = 13, Refresh "refresh" = 14, SubRefresh "sub_refresh" = 15
    }
    ConnectRequest {
        Token "token" = 1, Data "data" = 2, Subs "subs" = 3, Name "name" = 4, Version "version" = 5,
        Headers "headers" = 6
    }
    SubscribeRequest {
        Channel "channel" = 1, Token "token" = 2, Recover "recover" = 3, Epoch "epoch" = 6, Offset "offset" = 7,
        Data "data" = 8, Positioned "positioned" = 9, Recoverable "recoverable" = 10, JoinLeave "join_leave" = 11,
        Delta "delta" = 12, Filter "tf" = 13, Flag "flag" = 14, Type "type" = 15
    }
    FilterNode { Op "op" = 1, Key "key" = 2, Cmp "cmp" = 3, Val "val" = 4, Vals "vals" = 5, Nodes "nodes" = 6 }
    // Of `unsubscribe`, `presence` and `presence_stats`.
    ChannelRequest { Channel "channel" = 1 }
    PublishRequest { Channel "channel" = 1, Data "data" = 2 }
    HistoryRequest { Channel "channel" = 1, Limit "limit" = 7, Since "since" = 8, Reverse "reverse" = 9 }
    StreamPosition { Offset "offset" = 1, Epoch "epoch" = 2 }
    PingRequest {}
    SendRequest { Data "data" = 1 }
    RpcRequest { Data "data" = 1, Method "method" = 2 }
    RefreshRequest { Token "token" = 1 }
    SubRefreshRequest { Channel "channel" = 1, Token "token" = 2 }
    // What carries commands to a session whose transport goes one way only.
    EmulationRequest { Node "node" = 1, Session "session" = 2, Data "data" = 3 }
}

// What servers send.
messages! {
    Reply {
        Id "id" = 1, Error "error" = 2, Push "push" = 4, Connect "connect" = 5, Subscribe "subscribe" = 6,
        Unsubscribe "unsubscribe" = 7, Publish "publish" = 8, Presence "presence" = 9,
        PresenceStats "presence_stats" = 10, History "history" = 11, Rpc "rpc" = 13, Refresh "refresh" = 14,
        SubRefresh "sub_refresh" = 15
    }
    Error { Code "code" = 1, Message "message" = 2, Temporary "temporary" = 3 }
    ConnectResult {
        Client "client" = 1, Version "version" = 2, Expires "expires" = 3, Ttl "ttl" = 4, Data "data" = 5,
        Subs "subs" = 6, Ping "ping" = 7, Pong "pong" = 8, Session "session" = 9, Node "node" = 10, Time "time" = 11
    }
    SubscribeResult {
        Expires "expires" = 1, Ttl "ttl" = 2, Recoverable "recoverable" = 3, Epoch "epoch" = 6,
        Publications "publications" = 7, Recovered "recovered" = 8, Offset "offset" = 9, Positioned "positioned" = 10,
        Data "data" = 11, WasRecovering "was_recovering" = 12, Delta "delta" = 13
    }
    PresenceResult { Presence "presence" = 1 }
    PresenceStatsResult { NumClients "num_clients" = 1, NumUsers "num_users" = 2 }
    HistoryResult { Publications "publications" = 1, Epoch "epoch" = 2, Offset "offset" = 3 }
    RpcResult { Data "data" = 1 }
    RefreshResult { Client "client" = 1, Version "version" = 2, Expires "expires" = 3, Ttl "ttl" = 4 }
    SubRefreshResult { Expires "expires" = 1, Ttl "ttl" = 2 }
    ClientInfo { User "user" = 1, Client "client" = 2, ConnInfo "conn_info" = 3, ChanInfo "chan_info" = 4 }
    Publication {
        Data "data" = 4, Info "info" = 5, Offset "offset" = 6, Tags "tags" = 7, Delta "delta" = 8, Time "time" = 9
    }
    Push {
        Channel "channel" = 2, Publication "pub" = 4, Join "join" = 5, Leave "leave" = 6,
        Unsubscribe "unsubscribe" = 7, Message "message" = 8, Subscribe "subscribe" = 9, Disconnect "disconnect" = 11
    }
    // Of `join` and `leave`.
    PresenceChange { Info "info" = 1 }
    Unsubscribe { Code "code" = 2, Reason "reason" = 3 }
    Message { Data "data" = 1 }
    Subscribe {
        Recoverable "recoverable" = 1, Epoch "epoch" = 4, Offset "offset" = 5, Positioned "positioned" = 6,
        Data "data" = 7
    }
    Disconnect { Code "code" = 1, Reason "reason" = 2 }
}
