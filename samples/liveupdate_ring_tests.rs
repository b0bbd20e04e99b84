// SPDX-License-Identifier: GPL-2.0

//! The sample's table over a pretended kexec, with requests that a kernel with bugs may have left.

use super::*;
use kernel::liveupdate::testing;

#[kunit_tests(liveupdate_ring)]
mod tests {
    use super::*;

    const REQUESTS: u64 = 200;

    /// A table that the device has worked on a few times.
    fn worked_on(times: usize) -> Result<Table> {
        let mut table = Table::empty(Slab::unnamed()?, REQUESTS)?;
        for id in 0..REQUESTS {
            table.put(id)?;
        }
        for _ in 0..times {
            assert!(table.work());
        }
        Ok(table)
    }

    /// What arrives of a table once `spoil` was done to each of its requests.
    fn arrive(table: Table, mut spoil: impl FnMut(&mut Request)) -> Result<Slab<Request>> {
        let Table {
            slab, mut requests, ..
        } = table;
        while let Some(place) = requests.pop() {
            if let Some(mut request) = place {
                spoil(&mut request);
                request.keep();
            }
        }
        testing::cross(slab)
    }

    fn attempts(table: &Table, id: usize) -> u16 {
        table.status(id).map_or(0, |status| status.attempts)
    }

    #[test]
    fn what_was_in_flight_is_started_again_and_nothing_else() -> Result {
        let table = worked_on(3)?;
        assert_eq!((table.done, table.batch.len()), (64, BATCH));
        let mut table = Table::resume(arrive(table, |_| ())?, REQUESTS)?;
        assert_eq!((table.done, table.batch.len()), (64, BATCH));
        assert_eq!(
            [63, 64, 95, 96].map(|id| attempts(&table, id)),
            [1, 2, 2, 0]
        );
        while table.work() {}
        assert!(table.verify());
        assert_eq!(
            [63, 64, 95, 96].map(|id| attempts(&table, id)),
            [1, 2, 2, 1]
        );
        let slab = table.slab.clone();
        drop(table);
        assert_eq!(slab.count(), 0);
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_dropped_and_made_again() -> Result {
        let spoil = |request: &mut Request| match request.id {
            0 => request.result ^= 1,
            1 => request.status = 0,
            2 => request.status |= 1 << 8,
            3 => request.payload[1] ^= 1,
            // Another one, with a good checksum.
            4 => *request = Request::new(5),
            6 => *request = Request::new(REQUESTS),
            7 => request.reserved = 1,
            // Not started, and done; in flight, and never started.
            8 => request.status = 3 | 1 << 8,
            150 => request.status = 2,
            _ => (),
        };
        let mut table = Table::resume(arrive(worked_on(3)?, spoil)?, REQUESTS)?;
        assert_eq!(table.done, 64 - 8);
        assert_eq!(table.slab.count(), REQUESTS);
        while table.work() {}
        assert!(table.verify());
        Ok(())
    }

    #[test]
    fn a_table_of_garbage_is_no_table() -> Result {
        let garbage = |request: &mut Request| {
            for (byte, place) in request.as_mut_bytes().iter_mut().zip(0u8..) {
                *byte = byte.wrapping_mul(31).wrapping_add(place);
            }
        };
        let mut table = Table::resume(arrive(worked_on(3)?, garbage)?, REQUESTS)?;
        assert_eq!((table.done, table.slab.count()), (0, REQUESTS));
        while table.work() {}
        assert!(table.verify());
        Ok(())
    }

    #[test]
    fn a_status_is_one_number() {
        let mut known = 0;
        for bits in 0..1 << 20 {
            // States up to 15, and of the other two fields the low bits.
            let number = bits & 0xf | (bits >> 4 & 0xff) << 8 | (bits >> 12) << 16;
            if let Some(status) = Status::decode(number) {
                assert_eq!(status.encode(), number);
                known += 1;
            }
        }
        assert!(known > 0);
        assert_eq!(Status::decode(0), None);
        let done = Status::NEW.started().started().completed();
        assert_eq!((done.attempts, done.completions), (2, 1));
        assert_eq!(Status::decode(done.encode()), Some(done));
        assert_eq!(Status::decode(done.completed().encode()), None);
    }
}
