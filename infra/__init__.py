"""The set-up: command line, embedded servers, supervisor, migrations, images, proxies."""
