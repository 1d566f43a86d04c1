//! Rooms of the WebSocket baselines: who is a member, and what waits to be written to each. For one thread: no locks.
//!
//! A message is shared by all whom it waits for (`T` is counted by reference). Order of a sender is kept. Nobody gets their own
//! message. Nothing is dropped for a member that stays: one that is more than `MOST_WAITING` behind is out, which its task is
//! to tell by `is_out` and to close.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Waker};

/// Bytes that may wait for one member: those of its messages, and `OVERHEAD` for each.
const MOST_WAITING: usize = 4 << 20;
const OVERHEAD: usize = 64;

pub trait Size {
    fn size(&self) -> usize;
}

/// What a path asks for.
pub enum Path {
    Echo,
    Room(String),
}

impl Path {
    /// `/v1/echo` is the gateway's own: so that the load tool may speak to both.
    pub fn parse(path: &str) -> Option<Self> {
        match path {
            "/echo" | "/v1/echo" => Some(Self::Echo),
            _ => path.strip_prefix("/room/").filter(|name| !name.is_empty()).map(|name| Self::Room(name.to_owned())),
        }
    }
}

pub struct Rooms<T>(RefCell<HashMap<String, Rc<Room<T>>>>);

struct Room<T> {
    name: String,
    members: RefCell<Vec<Rc<Outbox<T>>>>,
}

/// What waits for one member.
struct Outbox<T> {
    waiting: RefCell<VecDeque<T>>,
    bytes: Cell<usize>,
    out: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Where it is in the members of its room.
    place: Cell<usize>,
}

/// One connection's place in a room, until it is dropped.
pub struct Member<T> {
    rooms: Rc<Rooms<T>>,
    room: Rc<Room<T>>,
    own: Rc<Outbox<T>>,
}

impl<T: Clone + Size> Rooms<T> {
    pub fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::default()))
    }

    pub fn join(self: &Rc<Self>, name: String) -> Member<T> {
        let mut rooms = self.0.borrow_mut();
        let room = rooms
            .entry(name)
            .or_insert_with_key(|name| Rc::new(Room { name: name.clone(), members: RefCell::default() }))
            .clone();
        let mut members = room.members.borrow_mut();
        let own = Rc::new(Outbox {
            waiting: RefCell::default(),
            bytes: Cell::new(0),
            out: Cell::new(false),
            waker: RefCell::default(),
            place: Cell::new(members.len()),
        });
        members.push(own.clone());
        drop(members);
        Member { rooms: self.clone(), room, own }
    }
}

impl<T: Clone + Size> Member<T> {
    /// Puts it into the queue of every other member.
    pub fn send(&self, message: &T) {
        for other in self.room.members.borrow().iter().filter(|other| !Rc::ptr_eq(other, &self.own)) {
            other.push(message.clone());
        }
    }

    /// The task that is to be woken when something waits again, or the member is out.
    pub fn watch(&self, context: &Context<'_>) {
        let mut waker = self.own.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    pub fn pop(&self) -> Option<T> {
        let message = self.own.waiting.borrow_mut().pop_front()?;
        self.own.bytes.set(self.own.bytes.get() - message.size() - OVERHEAD);
        Some(message)
    }

    /// It was too far behind: what waited is gone.
    pub fn is_out(&self) -> bool {
        self.own.out.get()
    }
}

impl<T: Size> Outbox<T> {
    fn push(&self, message: T) {
        let bytes = self.bytes.get() + message.size() + OVERHEAD;
        if self.out.get() {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        // Else it has been woken, or waits for its socket.
        let wake = waiting.is_empty() || bytes > MOST_WAITING;
        if bytes > MOST_WAITING {
            *waiting = VecDeque::new();
            self.bytes.set(0);
            self.out.set(true);
        } else {
            self.bytes.set(bytes);
            waiting.push_back(message);
        }
        if let Some(waker) = self.waker.borrow().as_ref().filter(|_| wake) {
            waker.wake_by_ref();
        }
    }
}

impl<T> Drop for Member<T> {
    fn drop(&mut self) {
        let mut members = self.room.members.borrow_mut();
        let place = self.own.place.get();
        members.swap_remove(place);
        if let Some(moved) = members.get(place) {
            moved.place.set(place);
        }
        if members.is_empty() {
            self.rooms.0.borrow_mut().remove(&self.room.name);
        }
    }
}
