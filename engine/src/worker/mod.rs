//! The timely side: threads that take stamped batches and commands in one order, and what they publish.

mod awake;
mod feed;
mod gauge;
mod inputs;
mod installed;
mod message;
mod outbox;
mod published;
mod run;
mod spawn;
mod store;
mod tap;

pub(crate) use awake::Awake;
pub(crate) use gauge::{Gauge, Limits, Load};
pub(crate) use message::{Building, Command, Contents, FeedId, Local, QuerySpec, RelationFeeds, Sequencer, Stores};
pub(crate) use outbox::{Changes, Outbox};
pub(crate) use published::{Hold, Published, describe};
pub(crate) use spawn::{spawn, start_workers};
