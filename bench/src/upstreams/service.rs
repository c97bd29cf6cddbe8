//! The shop's services and what their records look like.

/// One fake microservice.
#[derive(Debug)]
pub struct Service {
    /// Its name in paths, settings and counters.
    pub name: &'static str,
    /// The members of its records, besides `id`.
    pub members: &'static [(&'static str, Member)],
}

/// What a member holds.
#[derive(Clone, Copy, Debug)]
pub enum Member {
    /// A name of a thing, from several alphabets.
    Title,
    /// A person's name.
    Person,
    /// A city.
    City,
    /// So many words.
    Text(usize),
    /// An amount of money with two decimals.
    Money,
    /// A number from 0 to 1 with three decimals.
    Ratio,
    /// A whole number below this.
    Count(u32),
    /// True or false.
    Flag,
    /// A moment in RFC 3339.
    Moment,
    /// An address of an image.
    Picture,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A few short strings.
    Tags,
    /// An object in the object.
    Object(&'static [(&'static str, Member)]),
    /// Nothing.
    Null,
}

use Member::{City, Count, Flag, Moment, Money, Null, Object, Person, Picture, Ratio, Tags, Text, Title, Word};

const PRICE: Member = Object(&[("amount", Money), ("currency", Word(&["EUR", "CHF", "JPY", "USD"])), ("gross", Flag)]);
const ADDRESS: Member = Object(&[("name", Person), ("street", Text(2)), ("city", City), ("zip", Count(99_999))]);

/// All services. A service's number is its place here; its port is the base port plus one plus its number.
pub const SERVICES: [Service; 22] = [
    Service {
        name: "catalog",
        members: &[
            ("name", Title),
            ("description", Text(12)),
            ("brand", Person),
            ("attributes", Object(&[("color", Word(&["blau", "rouge", "緑", "ochre"])), ("weight_g", Count(20_000))])),
            ("tags", Tags),
            ("created_at", Moment),
        ],
    },
    Service {
        name: "price",
        members: &[("price", PRICE), ("list_price", PRICE), ("discount", Ratio), ("valid_until", Moment)],
    },
    Service {
        name: "stock",
        members: &[("available", Flag), ("quantity", Count(500)), ("warehouse", City), ("restock_at", Moment)],
    },
    Service {
        name: "reviews",
        members: &[
            ("author", Person),
            ("rating", Count(6)),
            ("title", Title),
            ("text", Text(20)),
            ("written_at", Moment),
        ],
    },
    Service {
        name: "cart",
        members: &[
            ("user_id", Count(100_000)),
            ("lines", Count(12)),
            ("total", PRICE),
            ("coupon", Null),
            ("updated_at", Moment),
        ],
    },
    Service {
        name: "recommendations",
        members: &[("name", Title), ("score", Ratio), ("reason", Text(4)), ("image", Picture)],
    },
    Service {
        name: "users",
        members: &[
            ("name", Person),
            ("language", Word(&["de", "fr", "ja", "en"])),
            ("address", ADDRESS),
            ("since", Moment),
        ],
    },
    Service {
        name: "orders",
        members: &[
            ("user_id", Count(100_000)),
            ("state", Word(&["placed", "paid", "shipped", "delivered"])),
            ("total", PRICE),
            ("ship_to", ADDRESS),
            ("placed_at", Moment),
        ],
    },
    Service {
        name: "shipping",
        members: &[
            ("carrier", Word(&["dhl", "post", "velo"])),
            ("cost", PRICE),
            ("days", Count(9)),
            ("tracking", Text(1)),
        ],
    },
    Service { name: "tax", members: &[("rate", Ratio), ("amount", Money), ("region", City), ("included", Flag)] },
    Service {
        name: "coupons",
        members: &[("code", Text(1)), ("discount", Ratio), ("minimum", PRICE), ("expires_at", Moment), ("used", Flag)],
    },
    Service {
        name: "images",
        members: &[("url", Picture), ("width", Count(4000)), ("height", Count(4000)), ("alt", Title)],
    },
    Service {
        name: "search",
        members: &[("name", Title), ("snippet", Text(10)), ("score", Ratio), ("image", Picture)],
    },
    Service {
        name: "categories",
        members: &[("name", Title), ("parent", Count(400)), ("products", Count(9000)), ("image", Picture)],
    },
    Service {
        name: "sellers",
        members: &[("name", Person), ("city", City), ("rating", Ratio), ("since", Moment), ("badges", Tags)],
    },
    Service {
        name: "wishlist",
        members: &[("product_id", Count(100_000)), ("name", Title), ("added_at", Moment), ("note", Text(5))],
    },
    Service {
        name: "loyalty",
        members: &[("points", Count(50_000)), ("tier", Word(&["bronze", "silver", "gold"])), ("until", Moment)],
    },
    Service {
        name: "payments",
        members: &[
            ("method", Word(&["card", "twint", "sepa"])),
            ("amount", PRICE),
            ("state", Word(&["open", "captured"])),
            ("at", Moment),
        ],
    },
    Service {
        name: "inventory",
        members: &[("warehouse", City), ("bins", Count(40)), ("reserved", Count(90)), ("counted_at", Moment)],
    },
    Service {
        name: "delivery",
        members: &[("slot", Moment), ("window_minutes", Count(240)), ("driver", Person), ("to", ADDRESS)],
    },
    Service {
        name: "related",
        members: &[("name", Title), ("price", PRICE), ("image", Picture), ("similarity", Ratio)],
    },
    Service {
        name: "notifications",
        members: &[
            ("kind", Word(&["mail", "push", "sms"])),
            ("subject", Title),
            ("text", Text(9)),
            ("read", Flag),
            ("sent_at", Moment),
        ],
    },
];

/// The number of the service of that name.
pub fn number_of(name: &str) -> Option<usize> {
    SERVICES.iter().position(|service| service.name == name)
}
