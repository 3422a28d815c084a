namespace Sessions.Tests.Api;

public sealed class CleanupKeyTests
{
    [Fact]
    public async Task Without_a_key_everybody_may_clean_up()
    {
        await using var server = SessionsServer.Start([]);

        Assert.Equal(200, (await server.PostAsync("/sessions/cleanup")).Status);
    }

    [Fact]
    public async Task With_a_key_only_who_sends_it()
    {
        await using var server = SessionsServer.Start([("sessions:cleanup_key", "secret")]);

        (await server.PostAsync("/sessions/cleanup")).IsProblem(401, "cleanup_key_required");
        (await server.PostAsync("/sessions/cleanup", null, ("X-Cleanup-Key", "guess"))).IsProblem(401, "cleanup_key_required");
        Assert.Equal(200, (await server.PostAsync("/sessions/cleanup", null, ("X-Cleanup-Key", "secret"))).Status);
    }
}
