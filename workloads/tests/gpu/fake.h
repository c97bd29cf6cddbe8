// What both fakes share: faults that a test causes by files beside the libraries, and a log of what was done.
//
// A fault that happens once is taken by renaming its file, so that exactly one process has it. A lasting one is read
// whenever it matters, and is over when the test removes its file. A file holds a number.
#pragma once

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Whether this call is the one that a fault was waiting for.
EXPORTED bool fake_take(const char *fault);
// The number of a lasting fault; `otherwise` where it is not there.
EXPORTED long long fake_lasting(const char *fault, long long otherwise);
// Writes a line to the file `log` beside the library.
EXPORTED void fake_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The context has met an illegal address: it answers with that to everything, until its process ends.
EXPORTED void fake_break();
EXPORTED bool fake_is_broken();
// Whether this thread has a context. nvJPEG works in it.
EXPORTED bool fake_has_context();
