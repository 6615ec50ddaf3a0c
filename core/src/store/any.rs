//! Any store behind one type, so that layers and gateways carry no type parameter.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Begin, Begun, Capabilities, Delete, Deleted, Finding, LeaseRef, Page, Query, ReleaseAs, ReleaseBy,
    Resolution, Resolved, Settled, Store, StoreError, Swept, Transactions, Watch,
};
use crate::identity::Secret;
use crate::record::{Completion, Record, RecordId, RecordView, Retention};

/// Any store, shared and cheap to clone.
///
/// ```
/// # fn demo(store: impl semel_core::store::Store) {
/// use semel_core::store::AnyStore;
/// let store = AnyStore::new(store);
/// let same = store.clone();
/// # }
/// ```
#[derive(Clone)]
pub struct AnyStore(Arc<dyn DynStore>);

impl AnyStore {
    /// Puts a store behind the common type. Wrapping an `AnyStore` again costs nothing but a box a call; do
    /// not.
    pub fn new(store: impl Store) -> Self {
        Self::shared(Arc::new(store))
    }

    /// The same for a store that somebody else goes on using by its own type.
    pub fn shared(store: Arc<impl Store>) -> Self {
        Self(store)
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

macro_rules! twin {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        /// The object-safe twin of [`Store`]: the same calls, boxed.
        trait DynStore: fmt::Debug + Send + Sync {
            $(fn $name<'a>(&'a self, $($arg: $ty),*) -> Answer<'a, $out>;)*
            fn capabilities(&self) -> Capabilities;
            fn secret(&self) -> &Secret;
            fn commits_with(&self, transactions: &dyn Transactions) -> bool;
        }

        impl<S: Store> DynStore for S {
            $(fn $name<'a>(&'a self, $($arg: $ty),*) -> Answer<'a, $out> {
                Box::pin(Store::$name(self, $($arg),*))
            })*

            fn capabilities(&self) -> Capabilities {
                Store::capabilities(self)
            }

            fn secret(&self) -> &Secret {
                Store::secret(self)
            }

            fn commits_with(&self, transactions: &dyn Transactions) -> bool {
                Store::commits_with(self, transactions)
            }
        }

        // The lifetimes have to be named: an argument and `self` live in the same boxed future.
        impl AnyStore {
            $(
                #[doc = concat!("[`Store::", stringify!($name), "`].")]
                pub fn $name<'a>(&'a self, $($arg: $ty),*) -> impl Future<Output = Result<$out, StoreError>> + Send + 'a {
                    self.0.$name($($arg),*)
                }
            )*

            /// [`Store::capabilities`].
            pub fn capabilities(&self) -> Capabilities {
                self.0.capabilities()
            }

            /// [`Store::secret`].
            pub fn secret(&self) -> &Secret {
                self.0.secret()
            }

            /// [`Store::commits_with`].
            pub fn commits_with(&self, transactions: &dyn Transactions) -> bool {
                self.0.commits_with(transactions)
            }
        }
    };
}

twin! {
    begin(ask: &'a Begin) -> Begun;
    renew(leases: &'a [LeaseRef], lease_for: Duration) -> Vec<Settled>;
    complete(lease: LeaseRef, completion: &'a Arc<Completion>, keep: &'a Retention) -> Settled;
    release(by: ReleaseBy, how: ReleaseAs, keep: &'a Retention) -> Settled;
    abandon(lease: LeaseRef) -> Settled;
    note(lease: LeaseRef, progress: &'a Bytes) -> Settled;
    watch(id: &'a RecordId) -> Watch;
    inspect(id: &'a RecordId) -> Option<RecordView>;
    read(id: &'a RecordId) -> Option<Record>;
    list(query: &'a Query) -> Page;
    resolve(id: &'a RecordId, resolution: &'a Resolution) -> Resolved;
    delete(id: &'a RecordId, which: Delete) -> Deleted;
    sweep(limit: usize) -> Swept;
    health() -> ();
    examine() -> Vec<Finding>;
}
