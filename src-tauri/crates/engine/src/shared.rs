//! What the engine thread and the handles share besides the channels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use store::BlockStore;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::keeping::answers::Answers;
use crate::keeping::residency::Residency;
use crate::permit::Rooms;
use crate::told::card::ModelCard;
use crate::told::histograms::Histograms;
use crate::told::model_name::ModelName;
use crate::told::record::{Records, RequestRecord};

/// Memory for the texts and vectors of all requests for vectors together.
const EMBED_MIB: u16 = 256;

pub(crate) struct Shared {
    pub(crate) default_model: ModelName,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) embed_rooms: Rooms,
    pub(crate) histograms: Arc<Histograms>,
    /// Guards the list against readers while the engine thread appends; held for a push or a copy only.
    records: Mutex<Records>,
    /// Guards the pointers to what is known of the models that are here; held for a clone or a store only.
    models: Mutex<BTreeMap<ModelName, OfModel>>,
    /// Guards the ids of models that were here since the start, by fingerprint; held for an entry or a look.
    names: Mutex<BTreeMap<[u8; 32], String>>,
    /// The engine thread's: where that has ended, the store is closed, and all is on disk.
    pub(crate) store: Weak<dyn BlockStore>,
    pub(crate) clock: Clock,
}

/// What everybody may know of a model; it stays while its worker is rebuilt.
#[derive(Clone)]
pub(crate) struct OfModel {
    pub(crate) card: Arc<ModelCard>,
    pub(crate) answers: Arc<Answers>,
    /// What of it is in its pool, while it has one; an encoder never has.
    pub(crate) residency: Option<Arc<Residency>>,
}

impl Shared {
    pub(crate) fn new(
        default_model: ModelName,
        max_requests: usize,
        store: Weak<dyn BlockStore>,
        clock: Clock,
    ) -> Shared {
        Shared {
            default_model,
            permits: Arc::new(Semaphore::new(max_requests)),
            embed_rooms: Rooms::of_mib(EMBED_MIB),
            histograms: Arc::new(Histograms::default()),
            records: Mutex::new(Records::default()),
            models: Mutex::default(),
            names: Mutex::default(),
            store,
            clock,
        }
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<ModelName, OfModel>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a model.
    pub(crate) fn of(&self, model: &ModelName) -> Option<OfModel> {
        self.models().get(model).cloned()
    }

    /// What is known of every model that is here, the default one first.
    pub(crate) fn all(&self) -> Vec<(ModelName, OfModel)> {
        let models = self.models();
        let mut all: Vec<_> = models.iter().map(|(name, of)| (name.clone(), of.clone())).collect();
        all.sort_by_key(|(name, _)| *name != self.default_model);
        all
    }

    /// A model has come in, with a pool if it generates. Where it is the one that was here before, its answers are still
    /// remembered.
    pub(crate) fn came_in(
        &self,
        model: &ModelName,
        card: &Arc<ModelCard>,
        residency: Option<Arc<Residency>>,
    ) -> Arc<Answers> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(card.fingerprint, card.name.clone());
        drop(names);
        let mut models = self.models();
        let known = models.get(model).filter(|of| of.card.fingerprint == card.fingerprint);
        let answers = known.map(|of| Arc::clone(&of.answers));
        let fresh = || Arc::new(Answers::new(card.fingerprint, Arc::clone(&card.text)));
        let answers = answers.unwrap_or_else(fresh);
        let of = OfModel { card: Arc::clone(card), answers: Arc::clone(&answers), residency };
        models.insert(model.clone(), of);
        answers
    }

    /// The id of the model with this fingerprint, if it was ever here.
    pub(crate) fn name_of(&self, fingerprint: &[u8; 32]) -> Option<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint).cloned()
    }

    /// A model's worker is gone, and its pool with it.
    pub(crate) fn lost_pool(&self, model: &ModelName) {
        if let Some(of) = self.models().get_mut(model) {
            of.residency = None;
        }
    }

    /// A model has left.
    pub(crate) fn left(&self, model: &ModelName) {
        self.models().remove(model);
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push_record(&self, record: RequestRecord) {
        self.records().push(record);
    }
}
