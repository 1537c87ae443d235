"""Where entries are kept: the contract of an engine, and the engines that fulfil it."""
