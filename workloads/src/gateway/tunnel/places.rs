//! How many tunnels are open, on all shards together: of each endpoint and of all.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The tunnels of a process. It outlives configurations: tunnels do.
#[derive(Default)]
pub struct Places {
    all: Arc<AtomicUsize>,
    by_endpoint: Mutex<HashMap<String, Arc<AtomicUsize>>>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Of the endpoint as many are open as may be.
    Endpoint,
    /// Of all.
    Gateway,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Full::Endpoint => "as many WebSockets are open here as may be",
            Full::Gateway => "as many WebSockets are open through this gateway as may be",
        })
    }
}

/// A tunnel's place, free again when this is dropped.
pub struct Place {
    all: Arc<AtomicUsize>,
    own: Arc<AtomicUsize>,
}

impl Places {
    /// The number of an endpoint's, by its name.
    pub fn of(&self, endpoint: &str) -> Arc<AtomicUsize> {
        let mut by_endpoint = self.by_endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        by_endpoint.entry(endpoint.to_owned()).or_default().clone()
    }

    /// A place among at most `own_most` of an endpoint's and `all_most` of all.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(&self, own: &Arc<AtomicUsize>, own_most: usize, all_most: usize) -> Result<Place, Full> {
        // Dropped where a number is too high, which takes both back.
        let place = Place { all: self.all.clone(), own: own.clone() };
        let before = (place.own.fetch_add(1, Ordering::Relaxed), place.all.fetch_add(1, Ordering::Relaxed));
        if before.0 >= own_most {
            return Err(Full::Endpoint);
        }
        if before.1 >= all_most {
            return Err(Full::Gateway);
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.own.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_and_a_refusal_takes_none() {
        let places = Places::default();
        let (one, other) = (places.of("GET /one"), places.of("GET /other"));
        let first = places.enter(&one, 1, 2).ok().unwrap();
        assert_eq!(places.enter(&one, 1, 2).err(), Some(Full::Endpoint));
        let _second = places.enter(&other, 5, 2).ok().unwrap();
        assert_eq!(places.enter(&other, 5, 2).err(), Some(Full::Gateway));
        drop(first);
        assert!(places.enter(&places.of("GET /one"), 1, 2).is_ok(), "the same number by the same name");
        assert_eq!((one.load(Ordering::Relaxed), places.all.load(Ordering::Relaxed)), (0, 1));
    }
}
