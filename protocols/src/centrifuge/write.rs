//! Writing replies and pushes. Each function appends one, with what separates it from the one before, so that `out` is
//! at any time the content of a message that can be sent.

use super::form::{Message, Nothing};
use super::json::Json;
use super::protobuf::Writer;
use super::reply::{AsyncMessage, PresenceChange, PresenceStats, Present, Push, Reply, RpcResult, ServerSubscribed};
use super::{
    ClientInfo, Codec, ConnectResult, Disconnect, ErrorCode, HistoryResult, Payload, Publication, RefreshResult,
    SubRefreshResult, SubscribeResult, Unsubscribed, schema,
};

/// What a publication usually has around its data and channel, in bytes: room is made for it at once.
const AROUND_DATA_BYTES: usize = 192;

fn write(codec: Codec, out: &mut Vec<u8>, message: impl Message) {
    match codec {
        Codec::Json => Json::write(out, message),
        Codec::Protobuf => Writer::write(out, message),
    }
}

fn write_reply(codec: Codec, out: &mut Vec<u8>, id: u32, kind: schema::Reply, content: impl Message) {
    write(codec, out, Reply { id, kind, content });
}

fn write_push(codec: Codec, out: &mut Vec<u8>, channel: &str, kind: schema::Push, content: impl Message) {
    write_reply(codec, out, 0, schema::Reply::Push, Push { channel, kind, content });
}

/// The command `id` has failed.
pub fn write_error(codec: Codec, out: &mut Vec<u8>, id: u32, error: &ErrorCode) {
    write_reply(codec, out, id, schema::Reply::Error, error);
}

/// The session has begun.
pub fn write_connect(codec: Codec, out: &mut Vec<u8>, id: u32, result: &ConnectResult<'_>) {
    write_reply(codec, out, id, schema::Reply::Connect, result);
}

/// The subscription has begun.
pub fn write_subscribe(codec: Codec, out: &mut Vec<u8>, id: u32, result: &SubscribeResult<'_>) {
    write_reply(codec, out, id, schema::Reply::Subscribe, result);
}

/// The subscription has ended.
pub fn write_unsubscribe_result(codec: Codec, out: &mut Vec<u8>, id: u32) {
    write_reply(codec, out, id, schema::Reply::Unsubscribe, Nothing);
}

/// The publication is accepted.
pub fn write_publish_result(codec: Codec, out: &mut Vec<u8>, id: u32) {
    write_reply(codec, out, id, schema::Reply::Publish, Nothing);
}

/// Who is there.
pub fn write_presence<'a>(codec: Codec, out: &mut Vec<u8>, id: u32, present: impl Iterator<Item = ClientInfo<'a>>) {
    write_reply(codec, out, id, schema::Reply::Presence, Present(present));
}

/// How many are there.
pub fn write_presence_stats(codec: Codec, out: &mut Vec<u8>, id: u32, clients: usize, users: usize) {
    write_reply(codec, out, id, schema::Reply::PresenceStats, PresenceStats { clients, users });
}

/// What was published.
pub fn write_history(codec: Codec, out: &mut Vec<u8>, id: u32, result: &HistoryResult<'_>) {
    write_reply(codec, out, id, schema::Reply::History, result);
}

/// What the call gave.
pub fn write_rpc(codec: Codec, out: &mut Vec<u8>, id: u32, data: Option<Payload<'_>>) {
    write_reply(codec, out, id, schema::Reply::Rpc, RpcResult(data));
}

/// The connection's token is replaced.
pub fn write_refresh(codec: Codec, out: &mut Vec<u8>, id: u32, result: &RefreshResult<'_>) {
    write_reply(codec, out, id, schema::Reply::Refresh, result);
}

/// The subscription's token is replaced.
pub fn write_sub_refresh(codec: Codec, out: &mut Vec<u8>, id: u32, result: &SubRefreshResult) {
    write_reply(codec, out, id, schema::Reply::SubRefresh, result);
}

/// A publication for its channel's subscribers.
pub fn write_publication(codec: Codec, out: &mut Vec<u8>, channel: &str, publication: &Publication<'_>) {
    out.reserve(AROUND_DATA_BYTES + channel.len() + publication.data.bytes().len());
    write_push(codec, out, channel, schema::Push::Publication, publication);
}

/// Somebody came.
pub fn write_join(codec: Codec, out: &mut Vec<u8>, channel: &str, info: &ClientInfo<'_>) {
    write_push(codec, out, channel, schema::Push::Join, PresenceChange(info));
}

/// Somebody left.
pub fn write_leave(codec: Codec, out: &mut Vec<u8>, channel: &str, info: &ClientInfo<'_>) {
    write_push(codec, out, channel, schema::Push::Leave, PresenceChange(info));
}

/// The server has ended a subscription.
pub fn write_unsubscribe_push(codec: Codec, out: &mut Vec<u8>, channel: &str, why: &Unsubscribed) {
    write_push(codec, out, channel, schema::Push::Unsubscribe, why);
}

/// The server has subscribed the client. Of the result its position and data are told.
pub fn write_subscribe_push(codec: Codec, out: &mut Vec<u8>, channel: &str, result: &SubscribeResult<'_>) {
    write_push(codec, out, channel, schema::Push::Subscribe, ServerSubscribed(result));
}

/// A message to one client.
pub fn write_message_push(codec: Codec, out: &mut Vec<u8>, data: Payload<'_>) {
    write_push(codec, out, "", schema::Push::Message, AsyncMessage(data));
}

/// The connection ends, on transports without close frames.
pub fn write_disconnect_push(codec: Codec, out: &mut Vec<u8>, why: &Disconnect) {
    write_push(codec, out, "", schema::Push::Disconnect, why);
}

/// Asks whether the client is there: a reply without anything.
pub fn write_ping(codec: Codec, out: &mut Vec<u8>) {
    write(codec, out, Nothing);
}
