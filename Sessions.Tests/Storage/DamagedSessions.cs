namespace Sessions.Tests.Storage;

/// <summary>Sessions of one user, some of which somebody damages, as a server meets them that has not seen them before.</summary>
internal static class DamagedSessions
{
    /// <summary>One that stays whole (<c>good</c>), and others, each with four turns.</summary>
    /// <returns>The ids of the others.</returns>
    public static async Task<string[]> FillAsync(Func<SessionsServer> start, int count)
    {
        await using var server = start();
        string[] ids = [.. Enumerable.Range(0, count).Select(i => $"bad{i}")];
        foreach (var id in (string[])["good", .. ids])
        {
            foreach (var text in (string[])["one", "two", "three", "four"])
            {
                await server.QueryAsync(text, id, "ada");
            }
        }

        return ids;
    }

    /// <summary>Appends a fifth turn.</summary>
    public static Task<Answer> PostTurnAsync(SessionsServer server, string id) => server.PostAsync($"/sessions/{id}/turns", new
    {
        input = new[] { new { role = "user", content = "five" } },
        output = new[] { new { role = "assistant", content = "good day" } },
        user_id = "ada",
    });

    /// <summary>Waits until the store is told to be well, or not, whatever else is.</summary>
    public static Task StoreIsAsync(SessionsServer server, string status) => ServiceProcess.UntilAsync(async () =>
        (string?)(await server.GetAsync("/health")).Json["checks"]!["store"]!["status"] == status);
}
