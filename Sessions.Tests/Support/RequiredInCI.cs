namespace Sessions.Tests;

/// <summary>What a machine of one's own may lack, and CI may not.</summary>
internal static class RequiredInCI
{
    /// <summary>Skips the test, or in CI fails it, where something is missing.</summary>
    public static void SkipUnless(bool isThere, string missing)
    {
        if (!isThere && Environment.GetEnvironmentVariable("CI") == "true")
        {
            throw new InvalidOperationException($"CI needs this: {missing}");
        }

        Assert.SkipUnless(isThere, missing);
    }
}
