//! Who may do what in a channel, as its namespace says.
//!
//! Each right has three doors: one for clients with a user's name, one for those who are subscribed, and one that
//! clients without a name need besides.

use super::config::Namespace;

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// Its user has a name.
    pub is_named: bool,
    /// It is subscribed to the channel.
    pub is_subscribed: bool,
    /// Everybody may do everything here.
    pub is_insecure: bool,
    /// The channel is for some only, by its name: whoever is not subscribed stays outside.
    pub is_closed: bool,
}

impl Asking {
    fn may(self, for_client: bool, for_subscriber: bool, for_anonymous: bool) -> bool {
        let for_client = for_client && (!self.is_closed || self.is_subscribed);
        let is_at_a_door = for_client || for_subscriber && self.is_subscribed;
        self.is_insecure || is_at_a_door && (self.is_named || for_anonymous)
    }
}

/// Whether it may subscribe without a token.
pub fn may_subscribe(namespace: &Namespace, asking: &Asking) -> bool {
    let asking = Asking { is_closed: false, ..*asking };
    asking.may(namespace.allow_subscribe_for_client, false, namespace.allow_subscribe_for_anonymous)
}

/// Whether it may publish.
pub fn may_publish(namespace: &Namespace, asking: &Asking) -> bool {
    asking.may(
        namespace.allow_publish_for_client,
        namespace.allow_publish_for_subscriber,
        namespace.allow_publish_for_anonymous,
    )
}

/// Whether it may ask who is there.
pub fn may_see_presence(namespace: &Namespace, asking: &Asking) -> bool {
    asking.may(
        namespace.allow_presence_for_client,
        namespace.allow_presence_for_subscriber,
        namespace.allow_presence_for_anonymous,
    )
}

/// Whether it may be told who comes and goes.
pub fn may_watch(namespace: &Namespace, asking: &Asking) -> bool {
    namespace.join_leave && may_see_presence(namespace, &Asking { is_subscribed: true, ..*asking })
}

/// Whether it may read history.
pub fn may_read_history(namespace: &Namespace, asking: &Asking) -> bool {
    asking.may(
        namespace.allow_history_for_client,
        namespace.allow_history_for_subscriber,
        namespace.allow_history_for_anonymous,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_open_for_whom_they_are() {
        let closed = Namespace::closed("");
        let (nobody, named) = (Asking::default(), Asking { is_named: true, ..Asking::default() });
        let subscribed = Asking { is_subscribed: true, ..named };
        assert!(!may_publish(&closed, &subscribed));
        assert!(may_publish(&closed, &Asking { is_insecure: true, ..nobody }));
        let for_client = Namespace { allow_publish_for_client: true, ..closed.clone() };
        assert!(may_publish(&for_client, &named) && !may_publish(&for_client, &nobody));
        let for_subscriber = Namespace { allow_publish_for_subscriber: true, ..closed.clone() };
        assert!(may_publish(&for_subscriber, &subscribed) && !may_publish(&for_subscriber, &named));
        let for_all = Namespace { allow_publish_for_anonymous: true, ..for_client };
        assert!(may_publish(&for_all, &nobody));
        let only_anonymous = Namespace { allow_publish_for_anonymous: true, ..closed };
        assert!(!may_publish(&only_anonymous, &nobody), "the door for clients is closed");
    }

    #[test]
    fn a_closed_channel_is_for_who_is_inside() {
        let open = Namespace { allow_history_for_client: true, ..Namespace::closed("") };
        let outside = Asking { is_named: true, is_closed: true, ..Asking::default() };
        assert!(!may_read_history(&open, &outside));
        assert!(may_read_history(&open, &Asking { is_subscribed: true, ..outside }));
    }
}
