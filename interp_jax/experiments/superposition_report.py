"""(being written)"""
def report(groups, directory):
    raise NotImplementedError
