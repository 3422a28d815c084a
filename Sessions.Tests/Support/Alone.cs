namespace Sessions.Tests;

/// <summary>Tests that measure something of the whole process: they run after the others, one at a time.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;
