// A conversation by the client that Kiota makes of the document. Its argument is the server's address.
using Generated;
using Generated.Models;
using Microsoft.Kiota.Abstractions.Authentication;
using Microsoft.Kiota.Http.HttpClientLibrary;

using var adapter = new HttpClientRequestAdapter(new AnonymousAuthenticationProvider()) { BaseUrl = args[0] };
var client = new ApiClient(adapter);

var first = await client.Query.PostAsync(new QueryRequest { Query = "I like tea", ThreadId = "kiota", UserId = "ada" });
Check(first!.Metadata!.SessionCreated == true && first.Metadata.Status == QueryResponseMetadata_status.Completed, "the first turn");
var query = new QueryRequest { Query = "What do I like?", ThreadId = "kiota", UserId = "ada" };
var second = await client.Query.PostAsync(query, request => request.Headers.Add("Idempotency-Key", "once"));
Check(second!.Response!.Contains("I like tea", StringComparison.Ordinal), "the agent knows what was said");
var again = await client.Query.PostAsync(query, request => request.Headers.Add("Idempotency-Key", "once"));
Check(again!.Metadata!.Turn == 2, "a retry");

var session = client.Sessions["kiota"];
var history = await session.History.GetAsync(request => request.QueryParameters.Limit = 1);
Check(history!.Turns is [{ Query: "I like tea" }] && history.HasMore == true, "a page of the history");
var list = await client.Users["ada"].Sessions.GetAsync();
Check(list!.Sessions is [{ SessionId: "kiota", Metadata.CreatedFrom: SessionMetadata_created_from.Query }], "a list");

var response = await client.V1.Responses.PostAsync(new CreateResponse
{
    Model = "advanced",
    Conversation = new CreateResponse.CreateResponse_conversation { String = "kiota" },
    Input = new CreateResponse.CreateResponse_input { String = "And now?" },
});
Check(response!.Status == Response_status.Completed && response.Output is [{ Type: Item_type.Message }], "a response");

await session.DeleteAsync();
try
{
    await session.GetAsync();
    Check(false, "a deleted session is gone");
}
catch (Problem problem)
{
    Check(problem.Code == "session_not_found", "an error is a problem");
}

Console.WriteLine("A conversation was held.");

static void Check(bool holds, string what)
{
    if (!holds)
    {
        throw new InvalidOperationException($"Not so: {what}");
    }
}
