"""Text that breaks out of wherever it is put unescaped."""

HOSTILE = (
    """</script></style></title></pre><script>document.title='broken out'</script><img src=x onerror=alert(1)>&"'"""
)
