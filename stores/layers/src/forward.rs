//! The steps that a layer hands on as they are.

/// Writes those methods of [`Store`](semel_core::store::Store) that a layer does not change. The store below is
/// its field `inner`.
macro_rules! forward {
    ($($step:ident)*) => { $(forward! { @ $step })* };
    (@ begin) => {
        async fn begin(&self, ask: &semel_core::store::Begin) -> Result<Begun, StoreError> {
            self.inner.begin(ask).await
        }
    };
    (@ renew) => {
        async fn renew(
            &self,
            leases: &[semel_core::store::LeaseRef],
            lease_for: std::time::Duration,
        ) -> Result<Vec<Settled>, StoreError> {
            self.inner.renew(leases, lease_for).await
        }
    };
    (@ complete) => {
        async fn complete(
            &self,
            lease: semel_core::store::LeaseRef,
            completion: &std::sync::Arc<semel_core::record::Completion>,
            keep: &semel_core::record::Retention,
        ) -> Result<Settled, StoreError> {
            self.inner.complete(lease, completion, keep).await
        }
    };
    (@ release) => {
        async fn release(
            &self,
            by: semel_core::store::ReleaseBy,
            how: semel_core::store::ReleaseAs,
            keep: &semel_core::record::Retention,
        ) -> Result<Settled, StoreError> {
            self.inner.release(by, how, keep).await
        }
    };
    (@ abandon) => {
        async fn abandon(&self, lease: semel_core::store::LeaseRef) -> Result<Settled, StoreError> {
            self.inner.abandon(lease).await
        }
    };
    (@ note) => {
        async fn note(
            &self,
            lease: semel_core::store::LeaseRef,
            progress: &bytes::Bytes,
        ) -> Result<Settled, StoreError> {
            self.inner.note(lease, progress).await
        }
    };
    (@ watch) => {
        async fn watch(
            &self,
            id: &semel_core::record::RecordId,
        ) -> Result<semel_core::store::Watch, StoreError> {
            self.inner.watch(id).await
        }
    };
    (@ inspect) => {
        async fn inspect(
            &self,
            id: &semel_core::record::RecordId,
        ) -> Result<Option<semel_core::record::RecordView>, StoreError> {
            self.inner.inspect(id).await
        }
    };
    (@ list) => {
        async fn list(
            &self,
            query: &semel_core::store::Query,
        ) -> Result<semel_core::store::Page, StoreError> {
            self.inner.list(query).await
        }
    };
    (@ delete) => {
        async fn delete(
            &self,
            id: &semel_core::record::RecordId,
            which: semel_core::store::Delete,
        ) -> Result<semel_core::store::Deleted, StoreError> {
            self.inner.delete(id, which).await
        }
    };
    (@ sweep) => {
        async fn sweep(&self, limit: usize) -> Result<semel_core::store::Swept, StoreError> {
            self.inner.sweep(limit).await
        }
    };
    (@ health) => {
        async fn health(&self) -> Result<(), StoreError> {
            self.inner.health().await
        }
    };
    (@ examine) => {
        async fn examine(&self) -> Result<Vec<semel_core::store::Finding>, StoreError> {
            self.inner.examine().await
        }
    };
    (@ capabilities) => {
        fn capabilities(&self) -> semel_core::store::Capabilities {
            self.inner.capabilities()
        }
    };
    (@ secret) => {
        fn secret(&self) -> &semel_core::identity::Secret {
            self.inner.secret()
        }
    };
}

pub(crate) use forward;
