// SPDX-License-Identifier: GPL-2.0

//! What the example driver's counters were set to, since the first kernel: a table of records that
//! is as long as it happens to be, and a record that has handles to it.

use kernel::{
    handover_struct,
    liveupdate::{
        record::{
            Area,
            Entry,
            Handover,
            Page,
            Ref, //
        },
        Flb,
        PreservedArea,
        PreservedRecord,
        RecordHandle, //
    },
    liveupdate_flb,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

handover_struct! {
    /// A counter was set.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) struct Setting("liveupdate-counter-setting") version 1 layouts [0x4e88be93] {
        /// To this.
        pub(crate) to: u64,
    }
}

handover_struct! {
    /// What is handed over.
    pub(crate) struct History("liveupdate-counter-history") version 1 layouts [0xb4f9410b] {
        /// Settings in the table.
        pub(crate) settings: u32,
        /// The table, if there is any setting.
        pub(crate) table: Option<Ref<Area<Setting>>>,
        /// The last one of them.
        pub(crate) last: Option<Ref<Page<Setting>>>,
    }
}

/// Settings that are remembered; later ones are forgotten.
const MOST: usize = 1000;

/// What counters were set to.
static SETTINGS: [Atomic<u64>; MOST] = [const { Atomic::new(0) }; MOST];

/// How many settings there were; more than there is room for, once some were forgotten.
static COUNT: Atomic<usize> = Atomic::new(0);

/// A counter was set to this.
pub(crate) fn add(to: u64) {
    if let Some(place) = SETTINGS.get(COUNT.fetch_add(1, Relaxed)) {
        place.store(to, Relaxed);
    }
}

/// The settings that are remembered.
fn settings() -> Result<KVec<Setting>> {
    let mut all = KVec::new();
    for place in SETTINGS.iter().take(COUNT.load(Relaxed)) {
        let to = place.load(Relaxed);
        all.push(Setting { to }, GFP_KERNEL)?;
    }
    Ok(all)
}

/// The FLB of the history.
pub(crate) struct Histories;

liveupdate_flb! {
    pub(crate) static HISTORY: Histories;
}

/// What the old kernel keeps of a history: dropping it gives all of it back.
pub(crate) struct Kept {
    _record: PreservedRecord<History>,
    _last: Option<PreservedRecord<Setting>>,
    _table: Option<PreservedArea<Setting>>,
}

/// Preserves settings.
pub(crate) fn keep(settings: &[Setting]) -> Result<(RecordHandle<History>, Kept)> {
    let table = match settings {
        [] => None,
        all => Some(PreservedArea::new(all.iter())?),
    };
    let last = settings
        .last()
        .map(|last| PreservedRecord::new(last, 1))
        .transpose()?;
    let record = History {
        settings: settings.len().try_into()?,
        table: table.as_ref().map(PreservedArea::reference),
        last: last.as_ref().map(PreservedRecord::reference),
    };
    let record = PreservedRecord::new(&record, 1)?;
    let handle = record.handle();
    let kept = Kept {
        _record: record,
        _last: last,
        _table: table,
    };
    Ok((handle, kept))
}

/// Takes settings back. What a handle stands for is freed whatever comes of the others.
pub(crate) fn take(handle: RecordHandle<History>) -> Result<KVec<Setting>> {
    let history = handle.take()?;
    let last = history.last.map(Ref::<Page<_>>::redeem).transpose();
    let table = history.table.map(Ref::<Area<_>>::redeem).transpose()?;
    let last = last?;
    let count = usize::try_from(history.settings)?;
    if count > MOST {
        return Err(EINVAL);
    }
    let mut settings = KVec::new();
    for index in 0..count {
        let setting = table.as_ref().ok_or(EINVAL)?.get(index)?;
        settings.push(setting, GFP_KERNEL)?;
    }
    match settings.last() == last.as_ref() {
        true => Ok(settings),
        false => Err(EINVAL),
    }
}

#[vtable]
impl Flb for Histories {
    const COMPATIBLE: &'static CStr = c"liveupdate-counter-history-v1";
    const FIELDS: &'static [Entry] = History::FIELDS;

    type Handle = RecordHandle<History>;
    type Outgoing = Kept;
    type Incoming = usize;

    fn preserve() -> Result<(Self::Handle, Kept)> {
        keep(&settings()?)
    }

    fn retrieve(handle: Self::Handle) -> Result<usize> {
        let settings = take(handle)?;
        let count = settings.len();
        pr_info!(
            "{count} settings arrived, the last is {}\n",
            settings.last().map_or(0, |last| last.to)
        );
        settings.iter().for_each(|setting| add(setting.to));
        Ok(count)
    }
}
