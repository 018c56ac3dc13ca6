"""Real servers for tests, one module each: started in a temporary folder on a free port of the loopback, and ended.

What a server is asked belongs to the tests. The programs come from Debian, and Azurite from npm
(tests/install_servers.sh).
"""
