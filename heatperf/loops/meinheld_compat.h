/* Included before everything else when meinheld_build compiles meinheld 1.0.2; the sources themselves stay untouched. */

#include <Python.h>

/* meinheld brings a greenlet.h of 2014 and reads a struct that is gone since greenlet 2: a greenlet that waits crashes.
   Both headers have the same guard, so that whichever comes first wins. */
#include <greenlet.h>

/* Declares writev, which meinheld forgets; compilers since GCC 14 insist. */
#include <sys/uio.h>

/* Gone with Python 3.13. */
#if PY_VERSION_HEX >= 0x030D0000
#define PyEval_CallObject(callable, args) PyObject_CallObject(callable, args)
#define PyEval_CallObjectWithKeywords(callable, args, kwargs) PyObject_Call(callable, args, kwargs)
#define Py_TRASHCAN_SAFE_BEGIN(object)
#define Py_TRASHCAN_SAFE_END(object)
#endif

#include <sys/epoll.h>

/* The kernel reports the end of a pipe, and a listening socket that was shut down, as EPOLLHUP alone. picoev looks for
   EPOLLIN and EPOLLOUT only: it would wake nobody, and since the event stays, never sleep again. */
#undef EPOLLIN
#define EPOLLIN (0x001u | EPOLLERR | EPOLLHUP)
#undef EPOLLOUT
#define EPOLLOUT (0x004u | EPOLLERR | EPOLLHUP)

/* picoev leaves a descriptor in the epoll set when a wait is over, and changes it for the next one, which saves two
   system calls. But it adds it with EPOLLEXCLUSIVE, and the kernel lets nobody change such an entry (EINVAL): a wait for
   writing after one for reading would never end. */
#undef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE 0u

/* Nothing else takes a descriptor out of the set before it is closed; and while a copy of it is open elsewhere, its
   entry would outlive it. meinheld_loop does that, and finds the set here. */
__attribute__((weak)) int meinheld_epoll_fd = -1;
static inline int create_epoll(void) { return meinheld_epoll_fd = epoll_create1(EPOLL_CLOEXEC); }
#define epoll_create(size) create_epoll()
