//! A limit of what is under way, and a queue before it: first come, first served, and no longer than it may be.
//!
//! ```text
//!   enter ─► a place is free? ─► Place ─► dropped: the first who waits has it, and nobody comes between
//!               └─► a seat is free? ─► waits ─┘
//!                      └─► Full
//! ```
//!
//! Who leaves the queue gives the seat up, and a place that was given meanwhile, too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// See the module's description. Stays on its shard.
#[derive(Debug)]
pub struct Gate {
    places: usize,
    seats: usize,
    taken: Cell<usize>,
    queue: RefCell<VecDeque<Rc<Seat>>>,
}

/// Who waits.
#[derive(Debug, Default)]
struct Seat {
    /// A place is there.
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// No place and no seat are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A place among those who are under way; given on when dropped.
#[derive(Debug)]
pub struct Place(Rc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_on();
    }
}

/// A place, or a seat in the queue: see [`Ticket::called`]. Dropped, it is given up.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    gate: Rc<Gate>,
    seat: Rc<Seat>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.seat.called.get() {
            self.gate.give_on();
        } else {
            self.gate.queue.borrow_mut().retain(|seat| !Rc::ptr_eq(seat, &self.seat));
        }
    }
}

impl Ticket {
    /// Waits until the place is there.
    pub async fn called(self) -> Place {
        poll_fn(|cx| {
            if self.seat.called.get() {
                return Poll::Ready(());
            }
            *self.seat.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        // The place is in the caller's hands from now on, and the seat in nobody's.
        self.seat.called.set(false);
        Place(self.gate.clone())
    }
}

impl Gate {
    /// `places` at least one for who is under way, and `seats` for who waits.
    pub fn new(places: usize, seats: usize) -> Rc<Gate> {
        Rc::new(Gate { places: places.max(1), seats, taken: Cell::new(0), queue: RefCell::default() })
    }

    /// How many are under way.
    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Takes a place, or a seat.
    ///
    /// # Errors
    /// As many wait already as may.
    pub fn enter(self: &Rc<Self>) -> Result<Ticket, Full> {
        let seat = Rc::new(Seat::default());
        if self.taken.get() < self.places {
            self.taken.set(self.taken.get() + 1);
            seat.called.set(true);
        } else {
            let mut queue = self.queue.borrow_mut();
            if queue.len() >= self.seats {
                return Err(Full);
            }
            queue.push_back(seat.clone());
        }
        Ok(Ticket { gate: self.clone(), seat })
    }

    fn give_on(&self) {
        let next = self.queue.borrow_mut().pop_front();
        match next {
            Some(seat) => {
                seat.called.set(true);
                if let Some(waker) = seat.waker.take() {
                    waker.wake();
                }
            }
            None => self.taken.set(self.taken.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::task::Context;

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn ready(gate: &Rc<Gate>) -> Place {
        match poll(pin!(gate.enter().unwrap().called())) {
            Poll::Ready(place) => place,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn places_go_to_those_who_wait_in_their_order() {
        let gate = Gate::new(1, 2);
        let place = ready(&gate);
        let mut waits = [(); 2].map(|()| Box::pin(gate.enter().unwrap().called()));
        assert!(waits.iter_mut().all(|wait| poll(wait.as_mut()).is_pending()));
        assert_eq!((gate.taken(), gate.waiting()), (1, 2));
        assert_eq!(gate.enter().unwrap_err(), Full);
        let [mut first, mut second] = waits;
        drop(place);
        assert!(poll(second.as_mut()).is_pending());
        let mut third = Box::pin(gate.enter().unwrap().called());
        assert!(poll(third.as_mut()).is_pending(), "nobody comes between");
        let Poll::Ready(place) = poll(first.as_mut()) else { panic!("its place is there") };
        drop(place);
        let Poll::Ready(place) = poll(second.as_mut()) else { panic!("its place is there") };
        drop((place, third));
        assert_eq!((gate.taken(), gate.waiting()), (0, 0));
    }

    #[test]
    fn who_leaves_takes_nothing_along() {
        let gate = Gate::new(1, 8);
        let place = ready(&gate);
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(gate.enter().unwrap().called())).collect();
        waits.iter_mut().for_each(|wait| assert!(poll(wait.as_mut()).is_pending()));
        drop(waits.remove(1));
        assert_eq!(gate.waiting(), 2);
        drop(place);
        // The first was called and leaves without having looked: the place is the next one's.
        drop(waits.remove(0));
        assert_eq!((gate.taken(), gate.waiting()), (1, 0));
        let Poll::Ready(place) = poll(waits[0].as_mut()) else { panic!("its place is there") };
        drop(waits);
        assert_eq!(gate.taken(), 1);
        drop(place);
        assert_eq!(gate.taken(), 0);
    }

    #[test]
    fn a_ticket_that_was_never_used_is_given_up() {
        let gate = Gate::new(1, 0);
        drop(gate.enter().unwrap());
        drop(gate.enter().unwrap().called());
        let place = ready(&gate);
        assert_eq!(gate.enter().unwrap_err(), Full);
        drop(place);
        drop(ready(&gate));
        assert_eq!((gate.taken(), gate.waiting()), (0, 0));
    }
}
