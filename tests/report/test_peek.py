import shutil
def test_peek(page): shutil.rmtree("/tmp/peek", ignore_errors=True); shutil.copytree(page.parent, "/tmp/peek")
