/* The program's version, as `cadtrain version` and run.json say it. */
#ifndef CADTRAIN_VERSION_H
#define CADTRAIN_VERSION_H
#define CAD_VERSION "0.1.0"
#endif
